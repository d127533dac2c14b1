"""Where recordings come from: stores that are kept, and sets of several."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.readers.factories import commonroad_text
from worldmodel.app import source
from worldmodel.app.compose import build, compose
from worldmodel.app.source import for_training, shipped_and_stitched, shipped_for_training, stitched
from worldmodel.data import Span, Split, Store, make_recording
from worldmodel.evaluation import episodes


def write_windows(folder: Path) -> Path:
    """A road of two windows of 4 s, on which vehicle 7 drives throughout, vehicle 8 at the end."""
    folder.mkdir()
    for first in (0, 20):
        states = [(step, 2.0 * (first + step), 0.5, 0.0, 10.0) for step in range(20)]
        text = commonroad_text(states=states)
        if first:
            other = commonroad_text(
                states=[(k, x - 30.0, y, *more) for k, x, y, *more in states[9:]], vehicle=8
            )
            text = text.replace("</commonRoad>", other.split("</lanelet>")[1])
        (folder / f"C-X_{first}_T-{first + 19}.xml").write_text(text)
    return folder


def test_windows_are_split_by_time_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cache = write_windows(tmp_path / "road"), str(tmp_path / "cache")
    made = stitched(str(folder), cache=cache, val=0.2, test=0.3, gap=0.2)
    (recording,) = made.recordings
    assert (recording.name, recording.num_frames) == ("road", 79)
    assert made.split.train == (Span("road", 0, 35),)
    assert made.split.val == (Span("road", 37, 53),)
    assert made.split.test == (Span("road", 55, 79, exclude=(7,)),)

    source.stitched.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(source, "read_windows", lambda *_, **__: pytest.fail("read again"))
        again = stitched(str(folder), cache=cache, val=0.2, test=0.3, gap=0.2)
    assert again.split == made.split
    np.testing.assert_array_equal(again.recordings[0].tracks.state, recording.tracks.state)
    # Another split or another file is another store.
    stitched(str(folder), cache=cache, val=0.2, test=0.4, gap=0.2)
    with (folder / "C-X_20_T-39.xml").open("a") as stream:
        stream.write("<!-- changed -->")
    source.stitched.cache_clear()
    stitched(str(folder), cache=cache, val=0.2, test=0.3, gap=0.2)
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_what_stores_are_joined_for() -> None:
    def store(name: str) -> Store:
        spans = (Span(name, 0, 30),), (Span(name, 30, 60),), (Span(name, 60, 80),)
        return Store((make_recording(name=name, num_vehicles=2, num_frames=80),), Split(*spans))

    both = for_training([store("a"), store("b")])
    assert [one.name for one in both.recordings] == ["a", "b"]
    assert both.split == Split(
        (Span("a", 0, 30), Span("b", 0, 30)), (Span("a", 30, 60), Span("b", 30, 60)), ()
    )
    with pytest.raises(ValueError, match="expected different names"):
        for_training([store("a"), store("a")])


@pytest.mark.slow
@pytest.mark.data
def test_mona_is_tested_on_its_end_without_vehicles_seen_before(shared_data: Path, tmp_path: Path) -> None:
    path, cache = str(shared_data / "mona_east"), str(tmp_path)
    store = stitched(path, cache=cache)
    assert [(one.first, one.last) for one in store.split.test] == [(3839, 4799)] * 2  # 96 s
    assert (
        len(episodes(store.recordings, store.split.test)) == 1299
    )  # 98 fewer with those whose recording is at fault
    seen = set()
    for span in (*store.split.train, *store.split.val):
        tracks = store[span.recording].tracks
        seen |= set(tracks.ids[tracks.valid[:, span.first : span.last].any(axis=1)].tolist())
    for span in store.split.test:
        driven = episodes(store.recordings, [span])
        assert not {one.vehicle_id for one in driven} & seen
    both = shipped_and_stitched(path, cache)
    alone = shipped_for_training().recordings
    assert [one.name for one in both.recordings] == [
        *(one.name for one in alone),
        "mona_east-1",
        "mona_east-2",
    ]
    assert len(both.split.val) == 3 and not both.split.test


def test_simulated_jams_are_to_train_on_and_are_simulated_once(tmp_path: Path) -> None:
    """`data=us101_jam`, three small scenes of it; traffic is slower than it may be."""
    small = ("data.scenes.num=3", "data.scenes.simulate.num_frames=30", "data.scenes.simulate.warm_up=1.0")
    config = compose("train", ["data=us101_jam", f"data.folder={tmp_path / 'jam'}", "data.val=0.34", *small])
    store = build(config.data)
    assert [len(getattr(store.split, part)) for part in ("train", "val", "test")] == [2, 1, 0]
    tracks = store.recordings[0].tracks
    assert 1.0 < tracks.state[..., 3][tracks.valid].mean() < 12.0
    written = [one.stat().st_mtime_ns for one in sorted((tmp_path / "jam").glob("*.parquet"))]
    build(config.data)
    assert [one.stat().st_mtime_ns for one in sorted((tmp_path / "jam").glob("*.parquet"))] == written
