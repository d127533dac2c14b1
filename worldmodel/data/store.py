"""Recordings on disk: one parquet file each, and a folder that holds several with their split.

The file holds one row per vehicle and frame; everything else (name, clock, coverage, lanes, source) is in its
header as JSON, under a version. Files and folders appear whole or not at all: they are written under another
name first.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from worldmodel.atomic import replacing
from worldmodel.data.error import RecordingError
from worldmodel.data.split import Split, load_split, save_split
from worldmodel.scene import Lanelet, LaneMap, Recording, Tracks

FORMAT = "worldmodel recording"
VERSION = 1
HEADER = b"worldmodel"
STATES = ("x", "y", "heading", "speed")
SPLIT_FILE = "split.json"
SUFFIX = ".parquet"


@dataclass(frozen=True)
class Store:
    """The content of a store folder.

    Attributes:
        recordings: sorted by name.
        split: which of their frames are for what.
    """

    recordings: tuple[Recording, ...]
    split: Split

    def __getitem__(self, name: str) -> Recording:
        for one in self.recordings:
            if one.name == name:
                return one
        raise KeyError(f"recording {name!r}, expected one of {[one.name for one in self.recordings]}")


def save_recording(recording: Recording, path: str | Path) -> None:
    """Writes a recording; an older file of that name is replaced only once the new one is complete.

    Raises:
        OSError: where it cannot be written; nothing is left behind.
    """
    path = Path(path)
    table = _table(recording)
    with replacing(path) as stream:
        pq.write_table(table, stream, compression="zstd")


def load_recording(path: str | Path) -> Recording:
    """Returns the recording in a file written by `save_recording`.

    Raises:
        RecordingError: where there is no such file, it is cut short, or of another format or version.
    """
    path = Path(path)
    try:
        table = pq.read_table(pa.BufferReader(path.read_bytes()))
    except FileNotFoundError:
        raise RecordingError(path, None, "no such file; prepare the recordings first") from None
    except (pa.ArrowException, OSError) as error:
        reason = f"not a whole parquet file ({error}); prepare the recordings again"
        raise RecordingError(path, None, reason) from error
    header = _header(path, table.schema.metadata or {})
    try:
        return _recording(table, header)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        reason = f"damaged ({error!r}); prepare the recordings again"
        raise RecordingError(path, None, reason) from error


def save_store(recordings: Iterable[Recording], split: Split, folder: str | Path) -> None:
    """Writes recordings and their split as a folder, replacing an older store once the new one is complete.

    Raises:
        ValueError: where the split does not fit the recordings.
        FileExistsError: where the folder holds something else.
        OSError: where it cannot be written; nothing is left behind.
    """
    folder = Path(folder)
    recordings = tuple(recordings)
    if len({one.name for one in recordings}) < len(recordings):
        raise ValueError(
            f"recordings {[one.name for one in recordings]}, expected different names; rename one"
        )
    _check_names(split, recordings)
    if folder.exists() and not (folder / SPLIT_FILE).is_file() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds files that are no store; choose an empty or new folder")

    def fill(temporary: Path) -> None:
        for one in recordings:
            save_recording(one, temporary / f"{one.name}{SUFFIX}")
        save_split(split, temporary / SPLIT_FILE)

    _replace_folder(folder, fill)


def load_store(folder: str | Path) -> Store:
    """Returns what `save_store` wrote.

    Raises:
        RecordingError: where the folder is missing or a file of it cannot be used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RecordingError(folder, None, "no such folder; prepare the recordings first")
    split = load_split(folder / SPLIT_FILE)
    paths = sorted(folder.glob(f"[!.]*{SUFFIX}"), key=lambda one: one.stem)
    recordings = _on_shared_maps(load_recording(path) for path in paths)
    try:
        _check_names(split, recordings)
    except ValueError as error:
        raise RecordingError(folder, None, f"{error}; prepare the recordings again") from error
    return Store(recordings, split)


def _on_shared_maps(recordings: Iterable[Recording]) -> tuple[Recording, ...]:
    """The recordings; those of equal roads share one map, so that what is computed from it is, too."""
    maps: dict[bytes, LaneMap] = {}
    shared = []
    for one in recordings:
        digest = hashlib.sha256()
        for lanelet in one.lane_map.lanelets:
            for part in (np.array([lanelet.id, len(lanelet.left)]), lanelet.left, lanelet.right):
                digest.update(np.ascontiguousarray(part).tobytes())
        shared.append(replace(one, lane_map=maps.setdefault(digest.digest(), one.lane_map)))
    return tuple(shared)


def _check_names(split: Split, recordings: tuple[Recording, ...]) -> None:
    frames = {one.name: one.num_frames for one in recordings}
    for span in (*split.train, *split.val, *split.test):
        if span.recording not in frames:
            raise ValueError(f"the split names {span.recording!r}, found {sorted(frames)}")
        if span.last > frames[span.recording]:
            raise ValueError(
                f"the split uses {span.last} frames of {span.recording!r}, which has {frames[span.recording]}"
            )


def _replace_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fills a new folder and puts it in the place of `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        content = temporary / "new"
        content.mkdir()
        fill(content)
        if folder.exists():
            folder.replace(temporary / "old")
        content.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _table(recording: Recording) -> pa.Table:
    tracks = recording.tracks
    vehicle, frame = np.nonzero(tracks.valid)
    columns = {"vehicle": vehicle.astype(np.int32), "frame": frame.astype(np.int32)}
    columns |= {name: tracks.state[vehicle, frame, number] for number, name in enumerate(STATES)}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "name": recording.name,
        "dt": recording.dt,
        "start": recording.start,
        "source": recording.source,
        "num_rows": len(vehicle),
        "ids": tracks.ids.tolist(),
        "size": tracks.size.tolist(),
        "coverage": recording.coverage.tolist(),
        "lanelets": [
            {"id": one.id, "left": one.left.tolist(), "right": one.right.tolist()}
            for one in recording.lane_map.lanelets
        ],
    }
    return pa.table(columns).replace_schema_metadata({HEADER: json.dumps(header).encode()})


def _header(path: Path, metadata: dict[bytes, bytes]) -> dict:
    if HEADER not in metadata:
        raise RecordingError(path, None, f"a parquet file without our header, expected format {FORMAT!r}")
    header = json.loads(metadata[HEADER])
    if header.get("format") != FORMAT:
        raise RecordingError(path, None, f"format {header.get('format')!r}, expected {FORMAT!r}")
    if header.get("version") != VERSION:
        raise RecordingError(
            path,
            None,
            f"version {header.get('version')}, expected {VERSION}; update the program or prepare again",
        )
    return header


def _recording(table: pa.Table, header: dict) -> Recording:
    if table.num_rows != header["num_rows"]:
        raise ValueError(f"{table.num_rows} rows, expected {header['num_rows']}")
    vehicle, frame = table["vehicle"].to_numpy(), table["frame"].to_numpy()
    coverage = np.array(header["coverage"], dtype=float).reshape(-1, 2)
    ids = np.array(header["ids"], dtype=np.int64)
    valid = np.zeros((len(ids), len(coverage)), dtype=bool)
    state = np.zeros((*valid.shape, 4))
    valid[vehicle, frame] = True
    state[vehicle, frame] = np.stack([table[name].to_numpy() for name in STATES], axis=1)
    lanelets = tuple(
        Lanelet(one["id"], np.array(one["left"]), np.array(one["right"])) for one in header["lanelets"]
    )
    return Recording(
        header["name"],
        Tracks(ids, state, np.array(header["size"], dtype=float).reshape(-1, 2), valid),
        LaneMap(lanelets),
        header["dt"],
        coverage,
        start=header["start"],
        source=header["source"],
    )
