"""Privileged agents from the command line: told the truth where there is one, refused where there is none."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from planners import NoAction
from tests.app.factories import save_small_store
from worldmodel.app.agents import needed_by
from worldmodel.app.cli import main
from worldmodel.app.compose import UsageError, build, compose, targets, with_objects
from worldmodel.data import Span, Split, save_store
from worldmodel.evaluation.table import read_episodes
from worldmodel.evaluation.truth import Truth
from worldmodel.protocols import Knowledge
from worldmodel.scene.traffic import MOTORWAY, simulate

QUICK = ["threads=1", "num_decisions=2", "batch_size=2", "max_episodes=2", "protocol=v1_once"]


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What drives in simulated traffic."""
    folder = tmp_path_factory.mktemp("traffic")
    recordings = simulate(MOTORWAY, num_frames=50, warm_up=1.0)
    save_store(recordings, Split(train=(), test=(Span(recordings[0].name, 0, 50),)), folder)
    return ["data=store", f"data.path={folder}", "env=traffic", *QUICK]


@pytest.mark.slow
def test_privileged_agents_drive_in_simulated_traffic(traffic: list[str], tmp_path: Path) -> None:
    agents = ["mpc_oracle", "mpc_constant_velocity", "driver", "mobil", "idm"]
    small = [f"agent.{one}.planner.{key}" for one in agents[:2] for key in ("num_iterations=1", "horizon=8")]
    wanted = [f"agent=[{','.join(agents)}]", "ours=mpc_oracle", "against=[idm]"]
    found = {}
    for name in ("one", "other"):
        assert main(["evaluate", *traffic, *wanted, *small, f"run={tmp_path / name}"]) == 0
        rows = read_episodes(tmp_path / name / "episodes.parquet")
        found[name] = [(row.agent, row.outcome, row.distance, row.mean_jerk) for row in rows]
    assert found["one"] == found["other"] and len(found["one"]) == 10
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    assert summary["agents"]["driver"]["safe"] == 1.0
    assert all(row["latency_ms"] > 0 for row in summary["agents"].values())
    different = [distance for agent, _, distance, _ in found["one"] if agent != "mpc_constant_velocity"]
    assert len(set(different)) == 8  # within 0.8 s the two that plan may agree


@pytest.mark.slow
def test_the_oracles_decision_is_drawn(traffic: list[str], tmp_path: Path) -> None:
    small = ["agent.mpc_oracle.planner.num_iterations=1", *(one for one in traffic if one not in QUICK)]
    assert main(["plan", *small, "threads=1", "agent=[mpc_oracle]", f"run={tmp_path / 'plan'}"]) == 0
    assert (tmp_path / "plan" / "plan.png").stat().st_size > 1000


def test_agents_that_read_the_recording_do_not_meet_its_ghosts(
    traffic: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["agent=[human,idm,mpc_true_future,lane_keeping]", f"run={tmp_path / 'run'}"]
    assert main(["evaluate", *traffic, *wanted]) == 2
    error = capsys.readouterr().err
    assert "human asks what the recorded driver did" in error and error.count("\n") == 1
    assert "mpc_true_future asks that the others will do what was recorded" in error
    assert "idm" not in error and "lane_keeping" not in error
    assert not (tmp_path / "run").exists()


def test_the_oracle_is_refused_where_nothing_is_simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_small_store(tmp_path / "store")
    wanted = ["data=store", f"data.path={tmp_path / 'store'}", *QUICK, "agent=[driver,mpc_oracle]"]
    assert main(["evaluate", *wanted]) == 2
    error = capsys.readouterr().err
    assert "ReplayVectorEnv does not know" in error
    assert "driver asks simulated traffic with its drivers" in error


class Clairvoyant(NoAction):
    """A new privileged agent: it says itself what it looks at."""

    needs = frozenset({Knowledge.TRAFFIC, Knowledge.FUTURE})


def test_a_new_class_is_refused_where_nobody_knows_what_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_small_store(tmp_path / "store")
    agent = f"+agent.mine._target_={__name__}.Clairvoyant"
    wanted = ["data=store", f"data.path={tmp_path / 'store'}", *QUICK, "agent=[no_action]", agent]
    assert main(["evaluate", *wanted]) == 2
    error = capsys.readouterr().err
    assert "mine asks simulated traffic with its drivers" in error
    assert "FUTURE" not in error and "will do what was recorded" not in error  # replay knows that


def test_a_class_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"planners\.Nobody does not exist"):
        list(targets({"planner": [{"_target_": "planners.Nobody"}]}))


def test_an_object_takes_the_place_of_its_name() -> None:
    config = compose("evaluate", ["agent=[driver]"])
    truth = Truth()
    assert build(with_objects(config, truth=truth).agent.driver).source is truth
    assert "truth" not in config


@pytest.mark.parametrize(
    ("agent", "needed"),
    [
        ("mpc_oracle", {Knowledge.TRAFFIC}),
        ("mpc_true_latent", {Knowledge.FUTURE}),
        ("mpc_constant_velocity", {Knowledge.OTHERS}),
        ("human", {Knowledge.LOG}),
        ("mpc_cvar", set()),
    ],
)
def test_what_an_agent_asks_shows_in_its_configuration(agent: str, needed: set[Knowledge]) -> None:
    node = compose("evaluate", [f"agent=[{agent}]", "checkpoint=model.pt"]).agent
    assert needed_by(OmegaConf.to_container(node)) == needed


@pytest.mark.parametrize("name", ["gap", "gap_traffic"])
def test_the_gap_is_made_of_agents_that_are_driven(name: str) -> None:
    config = compose("evaluate", [f"experiment={name}", *(["data.path=x"] if "traffic" in name else [])])
    compared = {config.ours, *config.against, *(one for pair in config.pairs for one in pair)}
    assert compared <= set(config.agent)
    steps = [tuple(pair) for pair in config.pairs]
    assert steps[0][0] == config.ours and steps[-1][1] == config.against[0]
    assert all(before[1] == after[0] for before, after in pairwise(steps))
