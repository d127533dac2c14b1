"""Reinforcement learning from the command line: in a model and in replay, resumed, kept, and driven."""

import json
from pathlib import Path

import pytest
import torch

from planners.policy import PolicyNetwork
from planners.policy.choice import ChoiceHead
from planners.reinforcement import StableTraining
from tests.app.test_train_policy import make_split
from worldmodel import load
from worldmodel.app.cli import main
from worldmodel.app.compose import compose
from worldmodel.app.run import Run
from worldmodel.data import Span, Split, make_recording, save_store
from worldmodel.models import read_checkpoint, save_model
from worldmodel.training.csv_logger import read_metrics

SMALL = (
    "threads=1", "seconds=null", "steps=24", "num_envs=2", "save_every=0", "model.channels=4",
    "model.features=8", "drive.num_episodes=2", "drive.every=0",
)  # fmt: skip
PPO = ("learner.num_steps=4", "learner.options.batch_size=8", "learner.options.n_epochs=1")


def arguments(folder: Path, *more: str) -> list[str]:
    store, checkpoint = folder / "store", folder / "model.pt"
    if not store.exists():
        names = ("train", "test")
        recordings = [
            make_recording(seed=i, name=one, num_vehicles=5, num_frames=70) for i, one in enumerate(names)
        ]
        save_store(recordings, Split(**{one: (Span(one, 0, 70),) for one in names}), store)
        save_model(make_split(), checkpoint)
    data = ["data=store", f"data.path={store}", f"run={folder / 'run'}"]
    return ["reinforce", *data, *SMALL, *more]


def in_model(folder: Path, *more: str) -> list[str]:
    return arguments(folder, f"checkpoint={folder / 'model.pt'}", "env.num_steps=3", *PPO, *more)


@pytest.mark.slow
def test_ppo_in_a_model_is_killed_and_carries_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After two of three rounds; what is missing is the third, and all three are in the log."""
    run, advance, done = tmp_path / "run", StableTraining.advance, []

    def advance_twice(self: StableTraining) -> dict[str, float]:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(self.steps)
        return advance(self)

    with monkeypatch.context() as patch:
        patch.setattr(StableTraining, "advance", advance_twice)
        assert main(in_model(tmp_path)) == 130
    assert done == [0, 8] and not (run / "policy.pt").exists()
    state = torch.load(run / "reinforce.pt", weights_only=True)
    assert state["training"]["steps"] == 16 and state["best"]["weights"] is not None
    assert main(in_model(tmp_path)) == 0
    metrics = read_metrics(run / "metrics" / "reinforce" / "metrics.csv")
    assert [step for step, _ in metrics["train/loss"]] == [8, 16, 24]
    assert {"val/failure", "val/crash", "rollout/reward", "rollout/crash", "seconds"} <= set(metrics)
    assert not (run / "reinforce.pt").exists()
    extra = read_checkpoint(run / "policy.pt")["extra"]
    assert extra["steps"] == 24 and extra["best_step"] in (8, 16, 24)
    assert isinstance(load(run / "policy.pt"), PolicyNetwork)
    before = (run / "policy.pt").stat().st_mtime_ns
    assert main(in_model(tmp_path)) == 0
    assert (run / "policy.pt").stat().st_mtime_ns == before

    drive = [
        "evaluate", "data=store", f"data.path={tmp_path / 'store'}", "agent=[policy]", "ours=policy",
        "against=[]", "threads=1", "num_decisions=2", "batch_size=2", "max_episodes=2",
        f"policy_checkpoint={run / 'policy.pt'}", f"run={tmp_path / 'drive'}",
    ]  # fmt: skip
    assert main(drive) == 0
    summary = json.loads((tmp_path / "drive" / "summary.json").read_text())
    assert summary["agents"]["policy"]["n"] == 2


def test_a_policy_is_trained_on_in_replay(tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = PolicyNetwork(channels=4, features=8)
    save_model(start, tmp_path / "start.pt")
    more = ("env=replay", "reward=cost", f"policy_checkpoint={tmp_path / 'start.pt'}")
    slow = "learner.learning_rate=1.0e-9"  # it stays where it began
    assert main(arguments(tmp_path, *PPO, *more, slow, "steps=8", "drive.num_episodes=0")) == 0
    got = load(tmp_path / "run" / "policy.pt")
    torch.testing.assert_close(got.encoder.mix.weight, start.encoder.mix.weight, rtol=0.0, atol=1e-6)
    assert read_checkpoint(tmp_path / "run" / "policy.pt")["extra"].keys() == {"learner", "steps", "seed"}


@pytest.mark.slow
def test_dqn_learns_to_choose(tmp_path: Path) -> None:
    options = ("buffer_size=50", "learning_starts=4", "batch_size=4", "target_update_interval=8")
    more = ("env=replay", "learner=dqn", "model=choice", "learner.chunk=8")
    learner = [f"learner.options.{one}" for one in options]
    assert main(arguments(tmp_path, *more, *learner, "steps=16")) == 0
    assert isinstance(load(tmp_path / "run" / "policy.pt").head, ChoiceHead)


@pytest.mark.slow
def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*command: str) -> str:
        assert main(arguments(tmp_path, *command)) != 0
        error = capsys.readouterr().err
        assert error.count("\n") == 1 or "reinforce" in error.splitlines()[0]
        return error

    assert "add checkpoint=" in said()
    save_model(PolicyNetwork(channels=4, features=8), tmp_path / "policy.pt")
    assert "holds a PolicyNetwork, which is no forward_model" in said(f"checkpoint={tmp_path / 'policy.pt'}")
    assert "give seconds= or steps=" in said("env=replay", "steps=null")
    assert "PPO trains a PointHead" in said("env=replay", "model=choice", f"run={tmp_path / 'head'}")
    other = arguments(tmp_path, "env=replay", f"run={tmp_path / 'other'}")
    Run.start(compose("reinforce", other[1:]), "reinforce")
    torch.save({"format": "something"}, tmp_path / "other" / "reinforce.pt")
    assert "no state of this command" in said("env=replay", f"run={tmp_path / 'other'}")
    monkeypatch.setattr("worldmodel.app.reinforce.find_spec", lambda name: None)
    assert "highway-worldmodel[rl]" in said("env=replay")
