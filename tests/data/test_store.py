"""Stored recordings come back as they were, and are whole or not there."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from worldmodel.data import (
    RecordingError,
    Span,
    Split,
    load_recording,
    load_store,
    make_recording,
    save_recording,
    save_store,
    us101,
)
from worldmodel.data import store as store_module
from worldmodel.scene import Recording


def assert_same(one: Recording, two: Recording) -> None:
    assert (one.name, one.dt, one.start, one.source) == (two.name, two.dt, two.start, two.source)
    np.testing.assert_array_equal(one.tracks.ids, two.tracks.ids)
    np.testing.assert_array_equal(one.tracks.size, two.tracks.size)
    np.testing.assert_array_equal(one.tracks.valid, two.tracks.valid)
    np.testing.assert_array_equal(one.tracks.state[one.tracks.valid], two.tracks.state[two.tracks.valid])
    np.testing.assert_array_equal(one.coverage, two.coverage)
    assert len(one.lane_map.lanelets) == len(two.lane_map.lanelets)
    for a, b in zip(one.lane_map.lanelets, two.lane_map.lanelets, strict=True):
        assert a.id == b.id
        np.testing.assert_array_equal(a.left, b.left)
        np.testing.assert_array_equal(a.right, b.right)


def test_a_recording_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    for recording in (make_recording(3, 9, 60, window=(100.0, 160.0)), us101("B")):
        path = tmp_path / f"{recording.name}.parquet"
        save_recording(recording, path)
        assert_same(load_recording(path), recording)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["synthetic-3.parquet", "us101-B.parquet"]


def test_broken_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(RecordingError, match="no such file; prepare the recordings first"):
        load_recording(path)
    save_recording(make_recording(), path)
    whole = path.read_bytes()
    for broken in (
        whole[:-100],
        whole[: len(whole) // 2],
        b"",
        b"text",
        whole[:40] + bytes(200) + whole[240:],
    ):
        path.write_bytes(broken)
        with pytest.raises(RecordingError, match=r"a.parquet: (not a whole parquet file|damaged)"):
            load_recording(path)


def test_other_formats_and_versions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [1.0]}), path)
    with pytest.raises(RecordingError, match="without our header"):
        load_recording(path)
    save_recording(make_recording(), path)
    table = pq.read_table(path)
    header = json.loads(table.schema.metadata[b"worldmodel"])
    for change, message in (
        ({"version": 2}, "version 2, expected 1; update"),
        ({"version": None}, "version None, expected 1"),
        ({"format": "other"}, "format 'other', expected 'worldmodel recording'"),
        ({"num_rows": 3}, "damaged .*800 rows, expected 3"),
        ({"ids": [1]}, "damaged"),
    ):
        changed = table.replace_schema_metadata({b"worldmodel": json.dumps(header | change).encode()})
        pq.write_table(changed, path)
        with pytest.raises(RecordingError, match=message):
            load_recording(path)


def fill_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Lets `after` files be written, then the disk is full."""
    real, calls = pq.write_table, []

    def write(table: pa.Table, stream: object, **options: object) -> None:
        calls.append(1)
        if len(calls) > after:
            stream.write(b"half")  # type: ignore[attr-defined]
            raise OSError(errno.ENOSPC, "No space left on device")
        real(table, stream, **options)

    monkeypatch.setattr(store_module.pq, "write_table", write)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, path = make_recording(0), tmp_path / "a.parquet"
    save_recording(old, path)
    fill_disk(monkeypatch, after=0)
    with pytest.raises(OSError, match="No space left"):
        save_recording(make_recording(1), path)
    assert [one.name for one in tmp_path.iterdir()] == ["a.parquet"]
    assert_same(load_recording(path), old)


def test_a_store_holds_recordings_and_their_split(tmp_path: Path) -> None:
    one, two = make_recording(0, name="one"), make_recording(1, name="two")
    split = Split(train=(Span("one", 0, 100),), test=(Span("two", 0, 50, (100,)),))
    folder = tmp_path / "deep" / "store"
    save_store([two, one], split, folder)
    found = load_store(folder)
    assert found.split == split
    assert [each.name for each in found.recordings] == ["one", "two"]
    assert_same(found["two"], two)
    with pytest.raises(KeyError, match=r"'three', expected one of \['one', 'two'\]"):
        found["three"]
    save_store(
        [one], Split(train=(Span("one", 0, 10),)), folder
    )  # replaces it, leaving nothing of the old one
    assert [each.name for each in load_store(folder).recordings] == ["one"]
    assert [each.name for each in folder.parent.iterdir()] == ["store"]


def test_a_full_disk_leaves_the_old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = make_recording(0, name="one"), make_recording(1, name="two")
    save_store([one], Split(train=(Span("one", 0, 10),)), tmp_path / "store")
    fill_disk(monkeypatch, after=1)
    with pytest.raises(OSError, match="No space left"):
        save_store([one, two], Split(train=(Span("two", 0, 10),)), tmp_path / "store")
    assert [each.name for each in tmp_path.iterdir()] == ["store"]
    assert [each.name for each in load_store(tmp_path / "store").recordings] == ["one"]


def test_a_store_refuses_what_does_not_fit(tmp_path: Path) -> None:
    recording = make_recording(0, name="one")
    split = Split(train=(Span("one", 0, 10),))
    with pytest.raises(ValueError, match="expected different names"):
        save_store([recording, recording], split, tmp_path / "store")
    with pytest.raises(ValueError, match=r"names 'two', found \['one'\]"):
        save_store([recording], Split(train=(Span("two", 0, 10),)), tmp_path / "store")
    with pytest.raises(ValueError, match="uses 500 frames of 'one', which has 100"):
        save_store([recording], Split(train=(Span("one", 0, 500),)), tmp_path / "store")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="holds files that are no store"):
        save_store([recording], split, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such folder; prepare the recordings first"):
        load_store(tmp_path / "store")
    save_store([make_recording(0, name="one")], Split(train=(Span("one", 0, 10),)), tmp_path / "store")
    (tmp_path / "store" / "one.parquet").unlink()
    with pytest.raises(RecordingError, match=r"names 'one', found \[\]"):
        load_store(tmp_path / "store")


def test_the_source_is_kept(tmp_path: Path) -> None:
    recording = replace(make_recording(), source="© somebody, CC BY")
    save_recording(recording, tmp_path / "a.parquet")
    assert load_recording(tmp_path / "a.parquet").source == "© somebody, CC BY"
