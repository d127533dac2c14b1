"""A suite of scenarios: levels that differ in one factor, the same scenes for all, and what is written."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from tests.app.test_results import make_row
from worldmodel.app import suite
from worldmodel.app.cli import main
from worldmodel.app.compose import build, compose
from worldmodel.app.course import Course
from worldmodel.app.reenact import Driven, read_drives, reenact
from worldmodel.app.suite_scene import choose_egos, keep_scenes, protocol_of, scenario_of, scene_folder
from worldmodel.app.suite_table import Drives, as_markdown, level_rows
from worldmodel.data import load_store
from worldmodel.evaluation import episodes, evaluate
from worldmodel.evaluation.fault import Fault

SMALL = ["scenes.num=2", "scenes.egos=2", "scenes.seconds=4.0", "scenes.warm_up=2.0", "num_decisions=2"]
SHORT = ["env.scenario.road.length=400.0"]


def plain(config: Any) -> Any:
    return OmegaConf.to_container(config, resolve=True)


def leaves(node: Any, path: str = "") -> dict[str, Any]:
    """Every value of nested dicts and lists, by its place."""
    if not isinstance(node, dict | list):
        return {path: node}
    items = node.items() if isinstance(node, dict) else enumerate(node)
    return {key: value for name, one in items for key, value in leaves(one, f"{path}.{name}").items()}


# --- Levels -------------------------------------------------------------------------------------------------

PLACES = {
    "density": (".density", ".inflow"),
    "speed": (".population.speed",),
    "aggressiveness": (".population.aggressiveness",),
    "lanes": (".road.num_lanes",),
    "road": (".road",),
}
"""What a factor may change in a scenario."""


@pytest.mark.slow
def test_every_level_differs_from_the_base_in_its_factor_alone() -> None:
    config = compose("suite")
    levels = suite.levels_of(config)
    assert {one.factor for one in levels} == set(PLACES)
    base = leaves(plain(scenario_of(list(config.base))))
    for level in levels:
        mine = leaves(plain(scenario_of(suite.shared_overrides(config, level))))
        changed = {key for key in mine.keys() | base.keys() if mine.get(key) != base.get(key)}
        assert bool(changed) == bool(level.overrides)
        assert all(key.startswith(PLACES[level.factor]) for key in changed), level
        # Three lanes go on everywhere but where their number is the factor.
        road = plain(scenario_of(suite.shared_overrides(config, level)).road)
        going_on = road.get("num_lanes") or sum("end" not in lane for lane in road["lanes"])
        assert going_on == 3 or level.factor == "lanes"
    keys = [one.key for one in levels]
    assert keys.count("base") == len(PLACES) and len(set(keys)) == len(levels) - len(PLACES) + 1


def test_the_base_is_driven_once_and_agents_get_the_weights_that_they_read() -> None:
    config = compose(
        "suite", ["factor=[density,lanes]", "agent=[lane_keeping,policy]", "policy_checkpoint=p.pt"]
    )
    levels, agents = suite.levels_of(config), suite.agents_of(config)
    assert agents == {
        "lane_keeping": ["agent=[lane_keeping]"],
        "policy": ["agent=[policy]", "policy_checkpoint=p.pt"],
    }
    scenes = {one.key: Path("scenes") / one.key for one in levels}
    names = [one.name for one in suite.stages_of(config, levels, agents, scenes=scenes)]
    assert len(names) == len(set(names)) == 5 * 2
    assert "drive-base-policy" in names and "drive-lanes-5-lane_keeping" in names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["factor=[densty]"], "factor is one of aggressiveness, density, lanes, road, speed"),
        (["factor=[]"], "no factor; give factor="),
        (["factor=[density]", "~factor.density.15"], "factor.density has levels 8, 25; expected exactly one"),
        (["agent=[policee]"], "agent is one of"),
        (["agent=[]"], "no agent to drive; give agent="),
        (["agent=[lane_keeping,policy]"], "policy_checkpoint is missing, which policy reads"),
        (["+also.mine={like:policee}"], "agent is one of"),
        (["reference=human"], "reference=human does not drive; choose one of lane_keeping, mpc_copy"),
        (["only=drive-density-99-*", "plan=true"], "matches no stage; plan=true lists them"),
    ],
)
def test_what_cannot_be_driven_is_one_line(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["suite", f"run={tmp_path / 'run'}", *more]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "run").exists()


# --- Scenes -------------------------------------------------------------------------------------------------


def small_course(folder: Path) -> Course:
    """Two short scenes, two vehicles of each, and the environment that goes on with them."""
    config = compose("suite", SMALL)
    overrides = [*config.base, *SHORT]
    path = scene_folder(folder, "base", plain(scenario_of(overrides)), plain(config.scenes))
    keep_scenes(scenario_of(overrides), path, config.scenes)
    store, protocol = load_store(path), protocol_of(config.scenes.seconds)
    found = episodes(store.recordings, store.split.test, protocol=protocol)
    return Course(store, tuple(found), protocol, build(compose("evaluate", overrides).env))


@pytest.mark.slow
def test_scenes_are_kept_and_the_vehicles_to_drive_are_drawn_once(tmp_path: Path) -> None:
    course = small_course(tmp_path)
    assert [one.recording for one in course.episodes] == [0, 0, 1, 1]
    assert {one.num_steps for one in course.episodes} == {40}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert small_course(tmp_path).episodes == course.episodes
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    recordings = list(course.store.recordings)
    spans = [choose_egos(recordings, course.protocol, num=2, seed=seed) for seed in (1, 1, 2)]
    assert spans[0] == spans[1] != spans[2]
    config = compose("suite", SMALL)
    other = plain(scenario_of([*config.base, *SHORT, "env.scenario.density=16.0"]))
    assert scene_folder(tmp_path, "base", other, plain(config.scenes)) not in tmp_path.iterdir()


class Weave:
    """An agent that swerves, so that something happens."""

    def reset(self, seed: int | None = None) -> None:
        """Does nothing."""

    def plan(self, obs: Any) -> Any:
        """Returns a step to the left, then to the right, by the ego's place."""
        from planners.baseline import NoAction

        plan = NoAction().plan(obs)
        plan.action[:, :, 0] = 1.5
        plan.action[:, :, 1] = 0.004 * (obs.state[:, -1, 0] / 15.0).sin()[:, None]
        return plan


@pytest.mark.slow
def test_a_drive_is_done_again_step_by_step(tmp_path: Path) -> None:
    course = small_course(tmp_path / "scenes")
    results = evaluate(
        {"weave": Weave()}, course.make_env, course.episodes, recordings=course.store.recordings,
        protocol=course.protocol, folder=tmp_path / "run", batch_size=3,
    )  # fmt: skip
    numbers = [3, 0]
    drives = read_drives(tmp_path / "run" / "trajectories.parquet", "weave", numbers)
    for number, drive, again in zip(numbers, drives, reenact(course, numbers, drives), strict=True):
        row, steps = results.rows[number], results.steps
        of_episode = np.array(steps["episode"]) == number
        path = np.stack(
            [np.array(steps[name])[of_episode] for name in ("x", "y", "heading", "speed")], axis=1
        )
        np.testing.assert_allclose(again.ego, path, atol=1e-4)  # float32 when it was kept
        assert (len(drive.action), again.hit_id) == (row.steps, row.hit_id)
        assert (again.fault == Fault.NONE) == (row.outcome != "collision")
        tracks = again.recording.tracks
        assert tracks.ids[again.vehicle] == row.vehicle_id and not tracks.valid[again.vehicle].any()
        assert tracks.valid.any(axis=0).all()
    other = Driven(drives[0].action, drives[0].end + 1.0)
    with pytest.raises(ValueError, match=r"episode 3 ends at .* drive again in a new folder"):
        reenact(course, [3], [other])
    assert reenact(course, [], []) == []


# --- Tables -------------------------------------------------------------------------------------------------


def test_rows_count_faults_and_compare_in_pairs(tmp_path: Path) -> None:
    course = Course.__new__(Course)
    bad = {"outcome": "collision"}
    rows = {
        "lane_keeping": [
            make_row("lane_keeping", one, safe=one < 4, **({} if one < 4 else bad)) for one in range(8)
        ],
        "policy": [make_row("policy", one, safe=one < 6, **({} if one < 6 else bad)) for one in range(8)],
    }
    faults = {"lane_keeping": {4: "ego", 5: "ego", 6: "other", 7: "both"}, "policy": {6: "other", 7: "other"}}
    drives = [Drives("base", name, tuple(rows[name]), faults[name], 2.0, course, tmp_path) for name in rows]
    base, policy = level_rows(drives, reference="lane_keeping")
    assert [base[f"fault_{one}"] for one in ("ego", "other", "both")] == [2, 1, 1]
    assert [policy[f"fault_{one}"] for one in ("ego", "other", "both")] == [0, 2, 0]
    assert (base["n"], base["safe"], base["rear"]) == (8, 0.5, 4)
    # Four scenes of two: deff = 4 / 3 * 4 / (8 / 4), so 8 episodes are worth 3. Wilson's, 1.5 of 3, by hand.
    assert base["safe_low"] == pytest.approx(0.1253, abs=1e-4)
    assert policy["safe_gain"] == pytest.approx(0.25) and "safe_gain" not in base
    told = [{"factor": "density", "level": "15", **row} for row in (base, policy)]
    text = as_markdown(told, reference="lane_keeping", failed={"drive-x": "because"})
    assert "## Density" in text and "- drive-x: because" in text
    assert "| 15 | policy | 8 | 75.0 [" in text and "| 0 / 2 / 0 |" in text


# --- All of it ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_suite_is_driven_and_carried_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = [
        "suite", f"run={tmp_path}", "factor=[road]", *SMALL, "agent=[lane_keeping,no_action]",
        "~factor.road.merge", "~factor.road.lane_drop", "videos=1",
    ]  # fmt: skip
    assert main(wanted) == 0
    found = json.loads((tmp_path / "suite.json").read_text())
    assert {(row["level"], row["agent"]) for row in found["rows"]} == {
        (level, agent) for level in ("straight", "curve") for agent in ("lane_keeping", "no_action")
    }
    curve = {row["agent"]: row for row in found["rows"] if row["level"] == "curve"}
    assert curve["no_action"]["safe"] < curve["lane_keeping"]["safe"] and curve["no_action"]["safe_gain"] < 0
    assert len(list(csv.DictReader((tmp_path / "suite.csv").read_text().splitlines()))) == 4
    page = (tmp_path / "report.html").read_text()
    assert page.count("<video") == len(list((tmp_path / "videos").iterdir())) >= 1
    assert 'id="road"' in page and (tmp_path / "suite.png").read_bytes().startswith(b"\x89PNG")

    driven = {path: path.stat().st_mtime_ns for path in tmp_path.glob("drive-*/*.parquet")}
    assert len(driven) == 8
    capsys.readouterr()
    assert main(wanted) == 0
    assert driven == {path: path.stat().st_mtime_ns for path in tmp_path.glob("drive-*/*.parquet")}
    assert capsys.readouterr().err.count("cached") == 4
    assert main([*wanted, "plan=true"]) == 0
    assert "4 stages" in (plan := capsys.readouterr().out) and "4 are done, 0.0 h are left" in plan
