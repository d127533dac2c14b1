"""Evaluation from the command line: its files, its resumption, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch

from tests.app.factories import save_model, save_small_store
from worldmodel.app.agents import key_of, weights_of, with_aliases
from worldmodel.app.cli import main
from worldmodel.app.compose import UsageError, build, compose
from worldmodel.app.course import make_course
from worldmodel.app.precheck import check_agents, check_pairs, raster_overrides
from worldmodel.app.source import held_out_block, shipped_for_training
from worldmodel.evaluation.table import read_episodes
from worldmodel.models import ForwardModel, save_forward_model
from worldmodel.scene import Channel, RasterSpec

KEYS = {
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
}


def arguments(folder: Path, *more: str) -> list[str]:
    store = folder / "store"
    if not store.exists():
        save_small_store(store)
    small = ["data=store", f"data.path={store}", "threads=1", "num_decisions=2", "batch_size=4"]
    return ["evaluate", *small, f"run={folder / 'run'}", *more]


@pytest.mark.slow
def test_an_evaluation_writes_rows_and_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = arguments(tmp_path, "agent=[human,no_action]", "ours=human", "against=[no_action]")
    assert main(wanted) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary["agents"]) == {"human", "no_action"}
    assert all(set(row) == KEYS for row in summary["agents"].values())
    human, rows = summary["agents"]["human"], read_episodes(tmp_path / "run" / "episodes.parquet")
    assert human["safe"] == human["success"] == 1.0 and human["safe_low"] < 1.0
    assert human["n"] == summary["episodes"] == sum(row.agent == "human" for row in rows)
    assert {row.recording for row in rows} == {"second"}
    no_action = summary["agents"]["no_action"]
    difference = summary["paired"]["human - no_action"]["success"]["difference"]
    assert difference == pytest.approx(human["success"] - no_action["success"])
    out = capsys.readouterr().out
    assert "100.0" in out and "episodes.csv" in out

    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "parts").iterdir()}
    assert main(wanted) == 0
    assert parts == {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "parts").iterdir()}


def test_some_episodes_are_not_those_of_one_vehicle(tmp_path: Path) -> None:
    everything = make_course(compose("evaluate", arguments(tmp_path)[1:])).episodes
    some = make_course(compose("evaluate", arguments(tmp_path, "max_episodes=4")[1:])).episodes
    assert len(some) == 4 and {one.vehicle for one in some} == {one.vehicle for one in everything}
    assert len({one.vehicle for one in everything[:4]}) < 4


@pytest.mark.slow
def test_another_environment_is_driven_in_anew(tmp_path: Path) -> None:
    def part() -> bytes:
        (found,) = (tmp_path / "run" / "parts").iterdir()
        return found.read_bytes()

    weights = save_model(tmp_path / "world.pt")
    imagined = ["env=world_model", f"checkpoint={weights}", "env.num_steps=3", "max_episodes=2"]
    wanted = arguments(tmp_path, "agent=[no_action]", *imagined)
    assert main(wanted) == 0
    first = part()
    assert main(wanted) == 0
    assert part() == first
    torch.manual_seed(7)
    save_model(weights)
    assert main(wanted) == 0
    assert part() != first


def test_an_agent_is_driven_with_several_checkpoints(tmp_path: Path) -> None:
    for seed in (0, 1):
        torch.manual_seed(seed)
        save_model(tmp_path / f"{seed}.pt")
    also = [f"+also.mpc_s{seed}={{like:mpc_learnt,checkpoint:{tmp_path / f'{seed}.pt'}}}" for seed in (0, 1)]
    wanted = arguments(tmp_path, "agent=[no_action]", "max_episodes=1", "protocol=ppuu", *also)
    wanted = [*wanted, "ours=mpc_s1", "against=[mpc_s0,no_action]"]
    config = with_aliases(compose("evaluate", wanted[1:]))
    assert list(config.agent) == ["no_action", "mpc_s0", "mpc_s1"]
    one, other = config.agent.mpc_s0, config.agent.mpc_s1
    assert weights_of(other) == [tmp_path / "1.pt"]
    assert key_of(one) != key_of(other)
    before = key_of(one)
    (tmp_path / "0.pt").write_bytes((tmp_path / "1.pt").read_bytes())
    assert key_of(one) != before

    with pytest.raises(UsageError, match="idm does not read checkpoint"):
        with_aliases(compose("evaluate", ["+also.a={like:idm,checkpoint:a.pt}"]))
    with pytest.raises(UsageError, match="agent is one of driver, human"):
        with_aliases(compose("evaluate", ["+also.a={like:idmm}"]))


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["agent=[mpc_learnt]"], 2, "checkpoint is missing; add checkpoint="),
        (["agent=[mpc_learnt]", "checkpoint=nowhere.pt"], 1, "nowhere.pt: no such file"),
        (
            ["agent=[mpc_learnt]", "checkpoint={other}"],
            1,
            "add raster.height=64\n",
        ),
        (
            ["agent=[mpc_learnt]", "checkpoint={short}"],
            1,
            "reads 5 frames of history, the course has 10; add env.history=5",
        ),
        (
            ["agent=[policy]", "policy_checkpoint={short}", "env.history=5"],
            2,
            "short.pt holds a ForwardModel, which is no policy of",
        ),
        (["agent=[mpc_learnt]", "checkpoint={cut}"], 1, "not a readable checkpoint"),
        (["agent=[]"], 2, "no agent to evaluate"),
        (["agent=[human]", "cluster=colour"], 2, "expected one of vehicle_id, scene"),
        (
            ["agent=[human,idm]", "ours=hunan"],
            2,
            "'hunan' in ours=, against= or pairs= does not drive: agent/hunan",
        ),
        (["agent=[human]", "against=[ldm]"], 2, "agent/ldm does not exist; agent is one of driver, human"),
        (["agent=[human]", "part=val"], 2, "the split has no frames for 'val'"),
        (["agent=[human]", "part=exam"], 2, "the split has no frames for 'exam'"),
        (["agent=[human]", "data.path=nowhere"], 1, "nowhere"),
        (["agent=[human]", "protocol.path=worldmodel.evaluation.protocol.V3"], 1, "V3"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(
    more: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save_model(tmp_path / "other.pt", spec=RasterSpec(height=64))
    (tmp_path / "cut.pt").write_bytes(other.read_bytes()[:1000])
    save_forward_model(ForwardModel(channels=8, history=5), tmp_path / "short.pt")
    filled = [one.format(other=other, cut=tmp_path / "cut.pt", short=tmp_path / "short.pt") for one in more]
    assert main(arguments(tmp_path, *filled)) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1 and not (tmp_path / "run").exists()


def test_another_view_of_the_road_is_driven_with_the_keys_that_are_named(tmp_path: Path) -> None:
    spec = RasterSpec(width=32, channels=(Channel.VEHICLES, Channel.LANE))
    keys = raster_overrides(spec, RasterSpec())
    assert keys == ["raster.width=32", "raster.channels=[vehicles,lane]"]
    save_forward_model(ForwardModel(spec=spec, channels=8, history=5), tmp_path / "wide.pt")
    more = ["agent=[mpc_learnt]", f"checkpoint={tmp_path / 'wide.pt'}", "env.history=5", *keys]
    config = compose("evaluate", arguments(tmp_path, *more)[1:])
    course = make_course(config)
    assert course.spec == spec
    check_agents(config, course)


@pytest.mark.slow
def test_agents_drive_with_a_longer_raster(tmp_path: Path) -> None:
    weights = save_model(tmp_path / "long.pt", spec=RasterSpec(height=237))
    agents = ["mpc_copy", "mpc_static", "mpc_constant_velocity", "mpc_learnt", "mpc_true_future"]
    wanted = arguments(
        tmp_path, f"agent=[{','.join(agents)}]", f"checkpoint={weights}", "raster=long", "max_episodes=1",
        "ours=mpc_learnt", "against=[mpc_copy]",
    )  # fmt: skip
    config = compose("evaluate", wanted[1:])
    assert make_course(config).spec == RasterSpec(height=237)
    proximity, *_ = build(config.cost).costs
    assert proximity.spec == RasterSpec(height=237)
    assert main(wanted) == 0
    rows = read_episodes(tmp_path / "run" / "episodes.parquet")
    by_agent = {row.agent: row for row in rows}
    assert set(by_agent) == set(agents)
    # What was never trained copies.
    assert by_agent["mpc_learnt"].distance == pytest.approx(by_agent["mpc_copy"].distance, abs=0.05)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["agent=[human,idm]"], "ours=mpc_learnt does not drive; set ours= to one of human, idm"),
        (["agent=[human,idm]", "ours=idm", "against=[no_action]"], "nobody in against=[no_action] drives"),
        (["agent=[human,idm]", "ours=idm", "against=[no_action,human]"], ""),
        (["agent=[human,idm]", "against=[]"], ""),
        (["agent=[human]"], ""),
        (["agent=[]", "+also.mine={like:idm}", "+also.other={like:human}"], "ours=mpc_learnt does not drive"),
    ],
)
def test_an_evaluation_without_pairs_says_why(more: list[str], said: str) -> None:
    reason = check_pairs(with_aliases(compose("evaluate", more)))
    assert reason.startswith(said) and bool(reason) == bool(said)


def test_an_empty_test_split_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_small_store(tmp_path / "store", test=False)
    assert main(arguments(tmp_path, "agent=[human]")) == 2
    assert "the split has no frames for 'test'" in capsys.readouterr().err


def test_a_horizon_beyond_the_recording_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_small_store(tmp_path / "store")
    wanted = [
        "data=store",
        f"data.path={tmp_path / 'store'}",
        "loader.horizon=500",
        f"run={tmp_path / 'run'}",
    ]
    assert main(["train", "seconds=1", "threads=1", *wanted]) == 1
    assert "no window of history=10 + horizon=500 frames" in capsys.readouterr().err


def test_a_block_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["data=us101_c", f"data.path={tmp_path / 'c.csv.gz'}", "agent=[human]"]
    assert main(["evaluate", *wanted]) == 1
    assert "c.csv.gz: no such file; give data.path=" in capsys.readouterr().err


@pytest.mark.slow
def test_training_on_both_blocks_leaves_nothing_out() -> None:
    store = shipped_for_training()
    assert [one.name for one in store.recordings] == ["us101-A", "us101-A-2", "us101-B"]
    trained = {span.recording: span for span in store.split.train}
    assert trained["us101-B"].last == 240 and not trained["us101-B"].exclude
    assert [span.recording for span in store.split.val] == ["us101-A"]


@pytest.mark.slow
@pytest.mark.data
def test_block_c_is_tested_without_the_vehicles_of_the_others(shared_data: Path) -> None:
    store = held_out_block(str(shared_data / "us101" / "us101_block_C.csv.gz"))
    seen = {int(one) for two in shipped_for_training().recordings for one in two.tracks.ids}
    driven = {int(one) for two in store.recordings for one in two.tracks.ids}
    for span, recording in zip(store.split.test, store.recordings, strict=True):
        assert (span.recording, span.first, span.last) == (recording.name, 0, recording.num_frames)
        assert set(span.exclude) == seen & set(recording.tracks.ids.tolist())
    assert len(driven - seen) == 154
