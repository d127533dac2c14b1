"""The suite drives what it is given, whatever the batch, and goes on where it was killed."""

import json
from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from envs import ReplayVectorEnv
from envs._core import ReplayCore
from tests.envs.factories import ROAD, SPEC, driver_actions, make_straight
from worldmodel.data.sample import us101
from worldmodel.data.smooth import make_consistent
from worldmodel.data.synthetic import make_recording
from worldmodel.evaluation.episode import Outcome
from worldmodel.evaluation.protocol import V1, episodes
from worldmodel.evaluation.suite import evaluate, measure_latency, to_obs
from worldmodel.evaluation.table import compare, read_episodes, summarise, write_summary
from worldmodel.scene import Renderer
from worldmodel.types import Obs, Plan

RECORDINGS = [make_recording(seed=1, num_frames=65)]
EPISODES = episodes(RECORDINGS)[:7]


@cache
def renderers() -> list[Renderer]:
    return [Renderer(one, SPEC) for one in RECORDINGS]


class Noisy:
    """Constant acceleration with seeded noise; dies after `lives` decisions."""

    def __init__(self, accel: float = 0.0, noise: float = 0.0, lives: int = 10**9) -> None:
        self.accel, self.noise, self.lives = accel, noise, lives
        self.scenes: list[list[int]] = []

    def reset(self, seed: int | None = None) -> None:
        self.generator = torch.Generator().manual_seed(seed or 0)

    def plan(self, obs: Obs) -> Plan:
        self.lives -= 1
        if self.lives < 0:
            raise KeyboardInterrupt
        self.scenes.append(obs.scene.tolist())
        action = torch.zeros(obs.batch_size, 5, 2)
        action[:, :, 0] = self.accel
        action[:, :, 1] = self.noise * torch.randn(obs.batch_size, 1, generator=self.generator)
        return Plan(action, torch.zeros(obs.batch_size, 5, 4), torch.zeros(obs.batch_size))


def make_env(num_envs: int) -> ReplayVectorEnv:
    return ReplayVectorEnv(
        RECORDINGS, EPISODES, num_envs, history=3, raster_spec=SPEC, road_spec=ROAD,
        autoreset_mode="Disabled", renderers=renderers(),
    )  # fmt: skip


def run(agents, folder=None, **options):
    return evaluate(agents, make_env, EPISODES, recordings=RECORDINGS, folder=folder, **options)


def timeless(rows):
    return [replace(row, plan_ms=0.0) for row in rows]


@pytest.mark.slow
def test_rows_are_those_of_driving_one_by_one():
    together = run({"brake": Noisy(-2.0)}, batch_size=4).rows
    one_by_one = run({"brake": Noisy(-2.0)}, batch_size=1).rows
    assert [replace(row, seed=0) for row in timeless(together)] == [
        replace(row, seed=0) for row in timeless(one_by_one)
    ]
    assert [row.first_frame for row in together] == [one.start for one in EPISODES]


def test_parts_of_another_environment_are_not_read(tmp_path):
    agent = Noisy(-2.0)
    run({"brake": agent}, tmp_path, env_key="a")
    driven = len(agent.scenes)
    run({"brake": agent}, tmp_path, env_key="a")
    assert len(agent.scenes) == driven > 0
    run({"brake": agent}, tmp_path, env_key="b")
    assert len(agent.scenes) == 2 * driven


def test_finished_episodes_are_not_planned_for():
    agent = Noisy(-2.0)
    rows = run({"brake": agent}, batch_size=4).rows
    assert sum(map(len, agent.scenes)) == sum(row.steps for row in rows)


@pytest.mark.slow
def test_a_killed_run_goes_on_and_gives_the_same_table(tmp_path):
    whole = run({"a": Noisy(noise=0.003), "b": Noisy(-1.0)}, tmp_path / "whole", batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        run({"a": Noisy(noise=0.003, lives=60), "b": Noisy(-1.0)}, tmp_path / "killed", batch_size=4)
    kept = sorted((tmp_path / "killed" / "parts").iterdir())
    assert [path.name for path in kept] == ["a-00000.parquet"]
    before = kept[0].stat().st_mtime_ns
    resumed = run({"a": Noisy(noise=0.003), "b": Noisy(-1.0)}, tmp_path / "killed", batch_size=4)
    assert kept[0].stat().st_mtime_ns == before
    assert timeless(resumed.rows) == timeless(whole.rows)
    assert resumed.steps == whole.steps
    table = read_episodes(tmp_path / "killed" / "episodes.parquet")
    assert timeless(table) == timeless(whole.rows)


def test_a_changed_agent_is_driven_anew(tmp_path):
    run({"a": Noisy()}, tmp_path, keys={"a": "one"})
    agent = Noisy()
    run({"a": agent}, tmp_path, keys={"a": "one"})
    assert not agent.scenes
    run({"a": agent}, tmp_path, keys={"a": "two"})
    assert agent.scenes


def test_files_hold_rows_trajectories_and_plans(tmp_path):
    done = []
    results = run({"a": Noisy()}, tmp_path, keep_plans=[2], progress=lambda *state: done.append(state))
    assert done == [("a", 7, 7)]
    steps = pq.read_table(tmp_path / "trajectories.parquet").to_pylist()
    assert len(steps) == sum(row.steps + 1 for row in results.rows)
    mine = [line for line in steps if line["episode"] == 2]
    start = RECORDINGS[0].tracks.state[EPISODES[2].vehicle, EPISODES[2].start]
    assert [mine[0][name] for name in ("x", "y", "heading", "speed")] == pytest.approx(
        start.tolist(), abs=1e-4
    )
    # A plan of zeros in the planning frame is the ego's own place, five times.
    assert mine[1]["plan"] == pytest.approx(start[:2].tolist() * 5, abs=1e-4)
    assert all(not line["plan"] for line in steps if line["episode"] != 2)
    assert len((tmp_path / "episodes.csv").read_text().splitlines()) == 8


def test_the_summary_has_the_agreed_names(tmp_path):
    rows = run({"a": Noisy(), "b": Noisy(-3.0)}).rows
    write_summary(tmp_path / "summary.json", summarise(rows, latency_ms={"a": 1.5}))
    summary = json.loads((tmp_path / "summary.json").read_text())
    names = [
        "n",
        "safe",
        "safe_low",
        "safe_high",
        "success",
        "success_low",
        "success_high",
        "distance",
        "mean_jerk",
        "front",
        "rear",
        "side",
        "off_road",
        "reverse",
        "latency_ms",
    ]
    assert list(summary["agents"]) == ["a", "b"]
    assert list(summary["agents"]["a"]) == names
    assert summary["agents"]["a"]["latency_ms"] == 1.5
    assert summary["agents"]["b"]["success"] == 0.0
    difference = compare(rows, "a", "b", field="distance")
    assert difference.low > 0.0
    with pytest.raises(ValueError, match="'c' 0"):
        compare(rows, "a", "c")


def test_latency_takes_one_scene_at_a_time():
    observation, info = make_env(3).reset(seed=0)
    agent = Noisy()
    assert measure_latency(agent, to_obs(observation, info), num_decisions=10) > 0.0
    assert len(agent.scenes) == 13
    assert all(len(scene) == 1 for scene in agent.scenes)


@pytest.mark.slow
@pytest.mark.parametrize("block", ["A", "B"])
def test_the_recorded_driver_is_safe(block):
    recording = make_consistent(us101(block))
    found = episodes([recording])
    core = ReplayCore([recording], found, protocol=V1, num_slots=len(found))
    actions = [driver_actions(recording, one).astype(np.float32) for one in found]
    slots = np.arange(len(found))
    core.start(slots, slots)
    while len(slots):
        core.step(slots, np.stack([actions[slot][core.steps[slot]] for slot in slots]))
        slots = slots[core.outcome[slots] == Outcome.RUNNING]
    is_safe = [Outcome(outcome).is_safe for outcome in core.outcome]
    assert np.mean(is_safe) >= 0.99
    assert np.mean(core.outcome == Outcome.FINISHED) >= 0.99


def test_a_result_is_plain_data():
    row = run({"a": Noisy()}).rows[0]
    assert json.loads(json.dumps(asdict(row)))["recording"] == make_recording(seed=1).name
    assert make_straight([(20.0, 2.0, 10.0)]).name == "straight"
