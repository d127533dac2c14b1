"""Where recordings come from: made consistent with the vehicle model, and read once whoever asks.

What takes long to read is kept as a store below `cache`, under a name that says what it was made of and how:
other files, another split or other code make another store.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache as once
from pathlib import Path

import worldmodel
from worldmodel.data import (
    RecordingError,
    Span,
    Split,
    Store,
    load_store,
    purge_shared,
    save_store,
    split_by_time,
    us101,
    us101_split,
)
from worldmodel.data.readers import read_block, read_windows
from worldmodel.data.record import Scenes, record
from worldmodel.data.sample import FOLDER
from worldmodel.data.smooth import make_consistent
from worldmodel.scene import Recording
from worldmodel.scene.validate import misrecorded

CODE = (
    "data/readers/*.py",
    "data/smooth.py",
    "data/split.py",
    "data/store.py",
    "scene/kinematics.py",
    "scene/validate.py",
)
"""What decides how a recording is read; a kept store of other code is not used."""


@once
def shipped() -> Store:
    """Returns blocks A and B of US-101 with their split."""
    return Store(tuple(make_consistent(us101(block)) for block in ("A", "B")), us101_split())


@once
def shipped_for_training(cache: str | None = None) -> Store:
    """Returns all recordings of blocks A and B of US-101, for training and validation; nothing to test.

    Args:
        cache: folder in which the store is kept; None keeps none.
    """

    def make() -> Store:
        found = tuple(make_consistent(one) for block in ("A", "B") for one in _block(block))
        split = us101_split()
        known = {span.recording for span in split.train}
        further = tuple(_whole(one) for one in found if one.name not in known)
        return Store(found, Split(train=(*split.train, *further), val=split.val, test=()))

    return _kept(make, cache, name="us101_ab", inputs=_shipped_files())


@once
def held_out_block(path: str, cache: str | None = None) -> Store:
    """Returns a block that does not ship, to test on: all of it, without the vehicles of blocks A and B."""
    if not Path(path).is_file():
        raise RecordingError(path, None, "no such file; give data.path= the CSV of the block")

    def make() -> Store:
        found = tuple(make_consistent(one) for one in read_block(path))
        seen = tuple(one for block in ("A", "B") for one in _block(block))
        split = Split(
            train=tuple(_whole(one) for one in seen), val=(), test=tuple(_whole(one) for one in found)
        )
        test = purge_shared(split, (*seen, *found)).test
        return Store(found, Split(train=(), val=(), test=test))

    return _kept(make, cache, name=Path(path).name.split(".")[0], inputs=[Path(path), *_shipped_files()])


@once
def stitched(
    path: str, *, cache: str | None = None, val: float = 0.1, test: float = 0.2, gap: float = 3.0
) -> Store:
    """Returns consecutive CommonRoad windows of one road, a recording per carriageway, split by time.

    The last part is the test, driven without the vehicles seen before and without those whose own recording
    overlaps another's or leaves the road there; what lies before it is for validation.

    Args:
        path: folder of the windows.
        cache: folder in which the store is kept; None keeps none.
        val: share of the time.
        test: share of the time.
        gap: left out between the parts [s].
    """
    paths = files(path, "*.xml*")

    def make() -> Store:
        found = tuple(make_consistent(one) for one in read_windows(paths, name=Path(path).name))
        split = split_all(found, val=val, test=test, gap=gap)
        known = {one.name: one for one in found}
        faultless = tuple(_without_misrecorded(span, known[span.recording]) for span in split.test)
        return Store(found, replace(split, test=faultless))

    return _kept(make, cache, name=Path(path).name, inputs=paths, settings=(val, test, gap))


@once
def shipped_and_stitched(path: str, cache: str | None = None) -> Store:
    """Returns blocks A and B of US-101 and the training part of `stitched`, to train and validate on both."""
    return for_training([shipped_for_training(cache), stitched(path, cache=cache)])


def for_training(stores: Sequence[Store]) -> Store:
    """Returns the recordings of several stores, with their training and validation parts alone.

    Raises:
        ValueError: where two recordings have one name.
    """
    found = tuple(one for store in stores for one in store.recordings)
    if len({one.name for one in found}) < len(found):
        raise ValueError(f"recordings {[one.name for one in found]}, expected different names; rename one")
    train, val = (
        tuple(span for store in stores for span in getattr(store.split, part)) for part in ("train", "val")
    )
    return Store(found, Split(train=train, val=val, test=()))


def split_all(recordings: Sequence[Recording], *, val: float, test: float, gap: float) -> Split:
    """Returns each recording split by time; a vehicle of a training part is no test vehicle anywhere."""
    parts = [split_by_time(one, val=val, test=test, gap=gap) for one in recordings]
    joined = Split(
        train=tuple(span for part in parts for span in part.train),
        val=tuple(span for part in parts for span in part.val),
        test=tuple(span for part in parts for span in part.test),
    )
    return purge_shared(joined, recordings)


@once
def stored(path: str) -> Store:
    """Returns the store that `worldmodel prepare` wrote to `path`."""
    return load_store(Path(path))


def simulated(scenes: Scenes, folder: str, *, val: float = 0.0, test: float = 1.0) -> Store:
    """Returns a store of scenes; those that `folder` does not hold yet are simulated first.

    Args:
        val: share of the scenes.
        test: share of the scenes; all of them, unless said otherwise.
    """
    record(scenes, folder, val=val, test=test)
    return stored(folder)


def files(path: str, pattern: str) -> list[Path]:
    """Returns `path` if it is a file, and the matching files in it if it is a folder.

    Raises:
        RecordingError: where there is none.
    """
    folder = Path(path)
    if not folder.exists():
        raise RecordingError(path, None, "no such file or folder; give path= what is to be read")
    found = [folder] if folder.is_file() else sorted(folder.glob(pattern))
    if not found:
        raise RecordingError(path, None, f"no file matches {pattern}; give path= a file or a folder of them")
    return found


def recordings(store: Store) -> tuple[Recording, ...]:
    """Returns the recordings of a store, for agents that may look things up in them."""
    return store.recordings


@once
def _block(name: str) -> tuple[Recording, ...]:
    return read_block(FOLDER / f"us101_block_{name}.csv.gz")


def _whole(recording: Recording) -> Span:
    return Span(recording.name, 0, recording.num_frames)


def _without_misrecorded(span: Span, recording: Recording) -> Span:
    faulty = misrecorded(recording.crop(span.first, span.last))
    return replace(span, exclude=tuple(sorted({*span.exclude, *faulty})))


def _shipped_files() -> list[Path]:
    return sorted(FOLDER.glob("*.gz"))


def _kept(
    make: Callable[[], Store],
    folder: str | None,
    *,
    name: str,
    inputs: Iterable[Path],
    settings: tuple[float, ...] = (),
) -> Store:
    """Returns the store kept below `folder`, made and written first if there is none of these inputs."""
    if folder is None:
        return make()
    package = Path(worldmodel.__file__).parent
    code = sorted(one for pattern in CODE for one in package.glob(pattern))
    digest = hashlib.sha256(repr(settings).encode())
    for one in (*inputs, *code):
        digest.update(one.name.encode() + hashlib.sha256(one.read_bytes()).digest())
    path = Path(folder) / f"{name}-{digest.hexdigest()[:12]}"
    if not path.exists():
        made = make()
        try:
            save_store(made.recordings, made.split, path)
        except OSError:
            if not path.exists():  # or another process was faster
                raise
    return load_store(path)
