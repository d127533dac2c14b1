"""Conversion factors into SI. The only place in the code base that knows other units."""

import math

METRES_PER_FOOT = 0.3048
METRES_PER_SECOND_PER_MPH = 0.44704
METRES_PER_SECOND_PER_KPH = 1.0 / 3.6
RADIANS_PER_DEGREE = math.pi / 180.0
SECONDS_PER_MILLISECOND = 1e-3

PPUU_METRES_PER_PIXEL = 4.0 * 3.7 / 24.0
"""Size of a PPUU raster pixel: 24 screen pixels per 3.7 m lane, shrunk by four [m/px]."""
