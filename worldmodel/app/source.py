"""Where recordings come from: made consistent with the vehicle model, and read once whoever asks."""

from functools import cache
from pathlib import Path

from worldmodel.data import (
    RecordingError,
    Span,
    Split,
    Store,
    load_store,
    purge_shared,
    us101,
    us101_split,
)
from worldmodel.data.readers import read_block
from worldmodel.data.sample import FOLDER
from worldmodel.data.smooth import make_consistent
from worldmodel.scene import Recording


@cache
def shipped() -> Store:
    """Returns blocks A and B of US-101 with their split."""
    return Store(tuple(make_consistent(us101(block)) for block in ("A", "B")), us101_split())


@cache
def shipped_for_training() -> Store:
    """Returns all recordings of blocks A and B of US-101, for training and validation; nothing to test."""
    found = tuple(make_consistent(one) for block in ("A", "B") for one in _block(block))
    split = us101_split()
    known = {span.recording for span in split.train}
    further = tuple(_whole(one) for one in found if one.name not in known)
    return Store(found, Split(train=(*split.train, *further), val=split.val, test=()))


@cache
def held_out_block(path: str) -> Store:
    """Returns a block that does not ship, to test on: all of it, without the vehicles of blocks A and B."""
    if not Path(path).is_file():
        raise RecordingError(path, None, "no such file; give data.path= the CSV of the block")
    found = tuple(make_consistent(one) for one in read_block(path))
    seen = tuple(one for block in ("A", "B") for one in _block(block))
    split = Split(train=tuple(_whole(one) for one in seen), val=(), test=tuple(_whole(one) for one in found))
    test = purge_shared(split, (*seen, *found)).test
    return Store(found, Split(train=(), val=(), test=test))


@cache
def stored(path: str) -> Store:
    """Returns the store that `worldmodel prepare` wrote to `path`."""
    return load_store(Path(path))


def files(path: str, pattern: str) -> list[Path]:
    """Returns `path` if it is a file, and the matching files in it if it is a folder.

    Raises:
        RecordingError: where there is none.
    """
    folder = Path(path)
    found = [folder] if folder.is_file() else sorted(folder.glob(pattern))
    if not found:
        raise RecordingError(path, None, f"no file matches {pattern}; give path= a file or a folder of them")
    return found


def recordings(store: Store) -> tuple[Recording, ...]:
    """Returns the recordings of a store, for agents that may look things up in them."""
    return store.recordings


@cache
def _block(name: str) -> tuple[Recording, ...]:
    return read_block(FOLDER / f"us101_block_{name}.csv.gz")


def _whole(recording: Recording) -> Span:
    return Span(recording.name, 0, recording.num_frames)
