"""Simulated scenes from the command line: recorded, extended, trained on, driven."""

import json
from pathlib import Path

import numpy as np
import pytest

from worldmodel.app.cli import main
from worldmodel.app.compose import build, compose
from worldmodel.app.course import make_course
from worldmodel.data import load_store
from worldmodel.evaluation.table import read_episodes

HIGHWAY = [
    "source=highway",
    "+source.simulate.config.vehicles_count=4",
    "+source.simulate.config.lanes_count=2",
    "source.simulate.duration=7.0",
]


TINY = [
    "data.scenes.num=1",
    "data.scenes.simulate.duration=6.0",
    "data.scenes.simulate.config.vehicles_count=3",
    "+data.scenes.simulate.config.lanes_count=2",
]


def prepare(folder: Path, *more: str) -> int:
    return main(["prepare", *HIGHWAY, f"out={folder}", *more])


def test_scenes_of_highway_env_become_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(tmp_path / "store", "source.num=2", "split.test=0.5") == 0
    out = capsys.readouterr().out
    assert "train: 1 scenes, 0.6 vehicle-minutes" in out and "test: 1 scenes" in out
    store = load_store(tmp_path / "store")
    assert [one.name for one in store.recordings] == ["highway-0000000", "highway-0000001"]
    assert all(one.tracks.valid.shape == (5, 70) for one in store.recordings)
    source = json.loads(store.recordings[1].source)
    assert (source["scenario"], source["seed"]) == ("highway", 1)
    before = {path.name: path.read_bytes() for path in (tmp_path / "store").glob("*.parquet")}
    assert prepare(tmp_path / "store", "source.num=3", "split.test=0.5") == 0
    for name, content in before.items():
        assert (tmp_path / "store" / name).read_bytes() == content
    capsys.readouterr()
    assert prepare(tmp_path / "store", "source.num=3", "source.first_seed=1") == 1
    assert "choose another folder" in capsys.readouterr().err


def test_simulated_traffic_becomes_a_store(tmp_path: Path) -> None:
    few = ["source.num=2", "source.simulate.num_frames=60", "source.simulate.warm_up=2.0", "split.test=0.5"]
    road = "source.simulate.scenario.road.length=300.0"
    assert main(["prepare", "source=traffic", *few, road, f"out={tmp_path / 'store'}"]) == 0
    store = load_store(tmp_path / "store")
    assert [one.name for one in store.recordings] == ["motorway-0000000", "motorway-0000001"]
    assert (len(store.split.train), len(store.split.test)) == (1, 1)
    length = np.concatenate([one.tracks.size[:, 0] for one in store.recordings])
    assert (length < 6.0).any() and (length > 8.0).any()  # cars and trucks


def test_any_scenario_can_be_recorded() -> None:
    config = compose("prepare", ["source=traffic", "traffic@source.simulate.scenario=us101"])
    scenes = build(config.source)
    scenario = scenes.simulate.keywords["scenario"]
    assert (scenes.name, scenario.road.num_lanes, scenario.density) == ("us101", 5, 27.0)
    assert scenario.population.types[0].headway.mean < 1.2


@pytest.mark.slow
def test_an_evaluation_in_highway_env_brings_its_scenes(tmp_path: Path) -> None:
    config = compose("evaluate", ["env=highway", f"data.folder={tmp_path / 'scenes'}", *TINY])
    assert config.protocol.name == "v1_once"
    course = make_course(config)
    assert [one.name for one in course.store.recordings] == ["highway-test-1000000"]
    assert [(one.vehicle, one.start) for one in course.episodes] == [(row, 19) for row in range(4)]
    env = course.make_env(2)
    _, info = env.reset(options={"episode": np.array([1, 3])})
    np.testing.assert_array_equal(info["origin"], [[0, 1, 19], [0, 3, 19]])
    again = compose("evaluate", ["env=highway", "data=store", "data.path=somewhere"])
    assert again.data.path == "somewhere"


def test_a_reader_still_asks_for_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "source=ngsim"]) == 2
    assert "path is missing; add path=" in capsys.readouterr().err


@pytest.mark.slow
def test_recorded_scenes_are_trained_on_and_driven_live(tmp_path: Path) -> None:
    assert prepare(tmp_path / "store", "source.num=2", "split.test=0.5", "split.val=0.0") == 0
    data = ["data=store", f"data.path={tmp_path / 'store'}", "threads=1"]
    train = ["train", *data, "seconds=1", "loader.batch_size=4", f"run={tmp_path / 'train'}"]
    assert main(train) == 0
    assert (tmp_path / "train" / "model.pt").exists()
    drive = [*data, "env=highway", "agent=[human,mpc_copy]", "ours=human", "against=[]"]
    drive += ["num_decisions=2", "batch_size=2", "max_episodes=2", f"run={tmp_path / 'drive'}"]
    assert main(["evaluate", *drive]) == 0
    rows = read_episodes(tmp_path / "drive" / "episodes.parquet")
    assert {row.recording for row in rows} == {"highway-0000000"}
    human = [row for row in rows if row.agent == "human"]
    assert len(human) == 2 and all(row.success for row in human)
    for row in human:
        assert row.distance == pytest.approx(row.human_distance, abs=1.0)
