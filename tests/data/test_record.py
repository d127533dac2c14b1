"""Recording scenes: the same shards whoever makes them, nothing made twice, nothing half made."""

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from worldmodel.data import load_store, make_recording
from worldmodel.data.dataset import WindowDataset, windows
from worldmodel.data.record import IDS, PLAN_FILE, Scenes, part_of, record
from worldmodel.data.worker import LocalWorkers, RayWorkers
from worldmodel.scene import Recording

LENGTH = 45


def make_scene(seed: int, *, num_vehicles: int = 4) -> Recording:
    """A made-up scene; its last vehicle stands still."""
    found = make_recording(seed, num_vehicles=num_vehicles, num_frames=LENGTH)
    found.tracks.state[-1] = [5.0, 1.0, 0.0, 0.0]
    return found


def simulate(*, seed: int, num_scenes: int, num_vehicles: int = 4) -> list[Recording]:
    return [make_scene(one, num_vehicles=num_vehicles) for one in range(seed, seed + num_scenes)]


def simulate_slowly(*, seed: int, num_scenes: int) -> list[Recording]:
    time.sleep(0.2)
    return simulate(seed=seed, num_scenes=num_scenes)


def one_by_one(make: Callable[[int], Recording]) -> Callable[..., Iterator[Recording]]:
    def make_all(*, seed: int, num_scenes: int) -> Iterator[Recording]:
        return (make(one) for one in range(seed, seed + num_scenes))

    return make_all


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_vehicle_of_every_scene_can_be_trained_on(tmp_path: Path) -> None:
    found = record(Scenes(simulate, num=10), tmp_path)
    assert found.num_scenes == (7, 2, 1)
    assert found.vehicle_minutes == pytest.approx([n * 4 * LENGTH / 600 for n in (7, 2, 1)])
    store = load_store(tmp_path)
    assert [one.name for one in store.recordings] == [f"scene-{seed:07d}" for seed in range(10)]
    ids = np.concatenate([one.tracks.ids for one in store.recordings])
    assert len(set(ids.tolist())) == 40 and store["scene-0000003"].tracks.ids[2] == 3 * IDS + 2
    np.testing.assert_array_equal(store["scene-0000003"].tracks.state, make_scene(3).tracks.state)
    store.split.check(store.recordings)
    index = windows(store.recordings, store.split.train, history=10, horizon=30)
    moving = [one.tracks.num_vehicles - 1 for one in store.recordings][:7]
    assert len(index) == sum(moving) * (LENGTH - 39)  # the obstacle is no driver to learn from
    clip = WindowDataset(store.recordings, index).collate([index[0], index[-1]])
    assert clip.action.shape == (2, 39, 2)


def test_the_shards_do_not_depend_on_the_order_or_the_run(tmp_path: Path) -> None:
    def backwards(work, items):
        for item in list(items)[::-1]:
            work(item)
            yield item

    record(Scenes(simulate, num=5), tmp_path / "forwards")
    record(Scenes(simulate, num=5), tmp_path / "backwards", workers=backwards)
    record(Scenes(simulate, num=3), tmp_path / "later")
    record(Scenes(simulate, num=5), tmp_path / "later")
    record(Scenes(simulate, num=5, together=2), tmp_path / "pairs")
    expected = content(tmp_path / "forwards")
    for other in ("backwards", "later", "pairs"):
        assert content(tmp_path / other) == expected


@pytest.mark.slow
def test_two_processes_make_the_same_shards(tmp_path: Path) -> None:
    record(Scenes(simulate, num=5), tmp_path / "one")
    seen: list[tuple[int, int]] = []
    record(
        Scenes(simulate, num=5),
        tmp_path / "two",
        workers=LocalWorkers(2),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert seen == [(done, 5) for done in range(6)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # ray's own
def test_a_ray_cluster_of_two_makes_the_same_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs pip install 'highway-worldmodel[ray]'")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # so that workers find this module
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    record(Scenes(simulate, num=5), tmp_path / "one")
    record(Scenes(simulate, num=5), tmp_path / "two", workers=RayWorkers(num=2))
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'highway-worldmodel\[ray\]'"):
        list(RayWorkers()(print, [1]))


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    made: list[int] = []

    def count(seed: int) -> Recording:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(seed)
        return make_scene(seed)

    with pytest.raises(KeyboardInterrupt):
        record(Scenes(one_by_one(count), num=5, together=2), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"scene-000000{seed}.parquet" for seed in range(3)), PLAN_FILE
    ]  # fmt: skip
    made.clear()
    done: list[int] = []
    record(
        Scenes(one_by_one(count), num=5, together=2),
        tmp_path,
        progress=lambda count, total: done.append(count),
    )
    assert made == [3, 4] and done == [3, 5]


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    code = (
        "from tests.data.test_record import *\n"
        f"record(Scenes(simulate_slowly, num=50), Path({str(tmp_path / 'killed')!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    folder = tmp_path / "killed"
    while len(list(folder.glob("*.parquet"))) < 2 and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "split.json").exists()
    (folder / ".scene-0000009.parquet.123.part").write_bytes(b"what a killed worker may leave")
    left = len(list(folder.glob("*.parquet")))
    record(Scenes(simulate_slowly, num=left + 1), folder)
    record(Scenes(simulate_slowly, num=left + 1), tmp_path / "whole")
    assert content(folder) == content(tmp_path / "whole")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_scenes(tmp_path: Path) -> None:
    def peak(num: int) -> int:
        tracemalloc.start()
        record(Scenes(partial(simulate, num_vehicles=20), num=num), tmp_path / str(num))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)
    assert peak(40) < 1.3 * peak(5)


@pytest.mark.parametrize("num", [100, 1000])
def test_the_parts_have_their_shares_and_keep_their_scenes(num: int) -> None:
    parts = [part_of(seed, val=0.1, test=0.2) for seed in range(num)]
    assert parts.count("test") == pytest.approx(0.2 * num, abs=1)
    assert parts.count("val") == pytest.approx(0.1 * num, abs=1)
    assert {part_of(seed, val=0.0, test=1.0) for seed in range(num)} == {"test"}


def test_recordings_that_are_no_drives_are_refused(tmp_path: Path) -> None:
    def jump(seed: int) -> Recording:
        found = make_scene(seed)
        found.tracks.state[0, 20:, 0] += 3.0
        return found

    with pytest.raises(ValueError, match="does not obey the integrator"):
        record(Scenes(one_by_one(jump), num=1), tmp_path)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    record(Scenes(simulate, num=3), tmp_path / "store")
    before = content(tmp_path / "store")
    with pytest.raises(ValueError, match="choose another folder"):
        record(Scenes(partial(simulate, num_vehicles=5), num=3), tmp_path / "store")
    with pytest.raises(ValueError, match=r"scene-0000002\.parquet, which is none of the 2 scenes"):
        record(Scenes(simulate, num=2), tmp_path / "store")
    assert content(tmp_path / "store") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="choose an empty folder"):
        record(Scenes(simulate, num=2), tmp_path / "mine")
    with pytest.raises(ValueError, match="shares that add up"):
        record(Scenes(simulate), tmp_path, val=0.6, test=0.6)
    with pytest.raises(ValueError, match="num=0"):
        Scenes(simulate, num=0)


def test_recordings_on_equal_roads_share_one_map(tmp_path: Path) -> None:
    first = make_recording(1, num_frames=5)
    roads = {1: first, 2: replace(make_recording(2, num_frames=5), lane_map=first.lane_map)}
    other = make_recording(3, num_lanes=2, num_frames=5)
    record(Scenes(one_by_one(lambda seed: roads.get(seed, other)), num=4), tmp_path)
    maps = [one.lane_map for one in load_store(tmp_path).recordings]
    assert maps[1] is maps[2] and maps[0] is maps[3] and maps[0] is not maps[1]
    assert maps[1].mirror() is maps[2].mirror()
