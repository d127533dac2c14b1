"""Where recordings come from: made consistent with the vehicle model, and read once whoever asks."""

from functools import cache
from pathlib import Path

from worldmodel.data import RecordingError, Store, load_store, us101, us101_split
from worldmodel.data.smooth import make_consistent
from worldmodel.scene import Recording


@cache
def shipped() -> Store:
    """Returns blocks A and B of US-101 with their split."""
    return Store(tuple(make_consistent(us101(block)) for block in ("A", "B")), us101_split())


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
