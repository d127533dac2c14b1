"""Readers: files of recorded traffic -> recordings in SI units. Each module says which units and axes its
source has.
"""

from worldmodel.data.readers.commonroad import CENTRE, FRONT, read_scenario, read_windows
from worldmodel.data.readers.us101 import read_block

__all__ = ["CENTRE", "FRONT", "read_block", "read_scenario", "read_windows"]
