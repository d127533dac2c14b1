"""Readers: files of recorded traffic -> recordings in SI units.

Each module says which units and axes its source has. What they share (tables, checks, folding, turning) is
here too.
"""

from worldmodel.data.readers.commonroad import CENTRE, FRONT, read_scenario, read_windows
from worldmodel.data.readers.ngsim import read_ngsim
from worldmodel.data.readers.us101 import read_block

__all__ = ["CENTRE", "FRONT", "read_block", "read_ngsim", "read_scenario", "read_windows"]
