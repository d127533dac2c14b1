"""The recording that ships with the package: two blocks of NGSIM's US-101, read like any other file.

Licences and credits are in `us101/NOTICE.md` beside the files.
"""

from functools import cache
from pathlib import Path

from worldmodel.data.readers.us101 import read_block
from worldmodel.data.split import Span, Split, purge_shared
from worldmodel.scene import Recording

FOLDER = Path(__file__).with_name("us101")
VAL_FRAMES = (88, 169)
"""Frames of block A for validation: scene US101-26, with pauses of 1.3 s before and 2.2 s after it."""


@cache
def us101(block: str) -> Recording:
    """Returns a shipped block of US-101, as measured: 41.8 s (A) or 24.0 s (B) of wall time, with pauses.

    A's last five seconds also show 20 vehicles on a stretch of road that does not touch the main one; they
    are left out here (`read_block` returns them as a second recording).

    Raises:
        ValueError: where no such block ships.

    Example:
        >>> us101("B").tracks.num_vehicles
        95
    """
    if block not in ("A", "B"):
        raise ValueError(
            f"block {block!r}, expected 'A' or 'B'; read other files with worldmodel.data.readers.read_block"
        )
    return read_block(FOLDER / f"us101_block_{block}.csv.gz")[0]


def us101_split() -> Split:
    """Returns the split of the two blocks: train and validate on A, test on B without A's vehicles."""
    train, test = us101("A"), us101("B")
    first, last = VAL_FRAMES
    split = Split(
        train=(Span(train.name, 0, first), Span(train.name, last, train.num_frames)),
        val=(Span(train.name, first, last),),
        test=(Span(test.name, 0, test.num_frames),),
    )
    # A's vehicles count as seen even where its second recording alone shows them.
    return purge_shared(split, [train, test])
