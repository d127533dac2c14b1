"""Policies from the command line: every loss trains, is resumed, is kept, and drives."""

import json
import subprocess
import sys
from contextlib import nullcontext
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from planners.policy import PolicyNetwork
from tests.app.factories import KilledError, kill_at
from worldmodel import load
from worldmodel.app.cli import main
from worldmodel.app.compose import UsageError, compose
from worldmodel.app.train_policy import check_practice
from worldmodel.data import Span, Split, make_recording, save_store
from worldmodel.models import CoupledModel, ForwardModel, GaussianLatent, read_checkpoint, save_model
from worldmodel.scene import RasterSpec
from worldmodel.training.csv_logger import read_metrics

POLICIES = sorted(
    one.name.removesuffix(".yaml")
    for one in files("configs").joinpath("policy").iterdir()
    if one.name != "common.yaml"
)
SMALL = (
    "threads=1", "seconds=null", "phases.0.num_steps=2", "loader.batch_size=2", "loader.val_batches=1",
    "model.channels=4", "model.features=8", "policy.drive.num_episodes=2", "validation.every=1",
    "log_every=1",
)  # fmt: skip


def make_split() -> ForwardModel:
    model = ForwardModel(channels=8, latent=GaussianLatent(8, 16, dim=4))
    model.variance_mean, model.variance_std = torch.zeros(30), torch.ones(30)
    return model


def save_members(folder: Path, num: int = 2) -> str:
    """Saves models that were not trained, and returns the word of the command line for them."""
    paths = [folder / f"member_{seed}.pt" for seed in range(num)]
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        save_model(ForwardModel(channels=8), path)
    return f"members=[{','.join(map(str, paths))}]"


def make_coupled() -> CoupledModel:
    return CoupledModel(history=10, lags=(0, 5), features=(4, 4, 4), width=8, channels=4)


def arguments(folder: Path, policy: str, *more: str) -> list[str]:
    store, checkpoint = folder / "store", folder / "model.pt"
    if not store.exists():
        names = ("train", "val", "test")
        recordings = [make_recording(seed=i, name=one, num_frames=80) for i, one in enumerate(names)]
        save_store(recordings, Split(**{one: (Span(one, 0, 80),) for one in names}), store)
    if not checkpoint.exists():
        save_model(make_coupled() if policy == "mpur_coupled" else make_split(), checkpoint)
    data = ["data=store", f"data.path={store}", f"run={folder / 'run'}"]
    return ["train", f"policy={policy}", f"checkpoint={checkpoint}", *data, *SMALL, *more]


@pytest.mark.slow
def test_imitation_is_trained_resumed_and_drives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path, "il", "checkpoint=null")) == 0
    run = tmp_path / "run"
    policy = load(run / "policy.pt")
    assert isinstance(policy, PolicyNetwork)
    extra = read_checkpoint(run / "policy.pt")["extra"]
    assert extra["policy"] == "il" and extra["steps"] == 2 and 0.0 <= extra["best_score"] <= 1.0
    metrics = read_metrics(run / "metrics" / "policy" / "metrics.csv")
    assert {"train/nll", "train/loss", "val/loss", "val/failure", "val/crash"} <= set(metrics)
    assert len(metrics["train/nll"]) == 2
    before = (run / "policy.pt").stat().st_mtime_ns
    assert main(arguments(tmp_path, "il", "checkpoint=null")) == 0
    assert (run / "policy.pt").stat().st_mtime_ns == before

    drive = [
        "evaluate", "data=store", f"data.path={tmp_path / 'store'}", "agent=[policy]", "ours=policy",
        "against=[]", "threads=1", "num_decisions=2", "batch_size=4", "max_episodes=2",
        f"policy_checkpoint={run / 'policy.pt'}", f"run={tmp_path / 'drive'}",
    ]  # fmt: skip
    assert main(drive) == 0
    summary = json.loads((tmp_path / "drive" / "summary.json").read_text())
    assert summary["agents"]["policy"]["n"] == 2


def test_a_policy_without_its_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path, "mpur", "checkpoint=null")) == 2
    error = capsys.readouterr().err
    assert "add checkpoint=" in error and error.count("\n") == 1


def test_several_processes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path, "il", "checkpoint=null", "devices=2")) == 2
    error = capsys.readouterr().err
    assert "devices=2" in error and "one process" in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_ensemble_of_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for members in ("members=[]", save_members(tmp_path, num=1)):
        assert main(arguments(tmp_path, "mpur_ensemble", "checkpoint=null", members)) == 2
        error = capsys.readouterr().err
        assert "at least two models" in error and "members=[A.pt,B.pt]" in error
        assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


PRACTICE = "policy.practice={share: 0.5, num_envs: 2, num_ticks: 1}"


@pytest.mark.parametrize("policy", ["il", "mper", "mpur_posterior"])
def test_a_loss_that_reads_the_future_does_not_practise(
    policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tmp_path, policy, PRACTICE)) == 2
    error = capsys.readouterr().err
    assert f"policy={policy} learns from" in error and "give policy.practice=null" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_practises_only_if_it_can(policy: str) -> None:
    config = compose("train", [f"policy={policy}", "checkpoint=model.pt"])
    check_practice(config)
    needs = policy in ("il", "mper", "mpur_posterior")
    with pytest.raises(UsageError) if needs else nullcontext():
        check_practice(compose("train", [f"policy={policy}", "checkpoint=model.pt", PRACTICE]))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["il", "vg"])
def test_killed_again_and_again_a_policy_takes_the_same_steps(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the policy has got to while practising (`vg`) is kept, too."""
    options = ["phases.0.num_steps=6", "resume_every=2", "validation.every=2", "policy.horizon=5"]
    options += ["policy.practice={share: 0.5, num_envs: 2, num_ticks: 9}"] if policy == "vg" else []

    def train(run: str) -> int:
        return main(arguments(tmp_path, policy, *options, f"run={tmp_path / run}"))

    assert train("whole") == 0
    for steps in (4, 2):  # the second time, after a training that carried on
        with monkeypatch.context() as patch:
            kill_at(patch, steps)
            with pytest.raises(KilledError):
                train("killed")
    assert torch.load(tmp_path / "killed" / "training.pt", weights_only=True)["step"] == 2
    assert train("killed") == 0
    whole, killed = (
        read_metrics(tmp_path / run / "metrics" / "policy" / "metrics.csv") for run in ("whole", "killed")
    )
    assert [step for step, _ in whole["train/loss"]] == list(range(6))
    assert killed == whole


@pytest.mark.slow
@pytest.mark.parametrize("policy", [one for one in POLICIES if one != "il"])
def test_every_loss_trains(policy: str, tmp_path: Path) -> None:
    short = [] if policy in ("mpur_20", "mper") else ["policy.horizon=10"]
    short += [save_members(tmp_path), "checkpoint=null"] if policy == "mpur_ensemble" else []
    assert (
        main(
            arguments(tmp_path, policy, *short, "policy.drive.num_episodes=0", "validation.monitor=val/loss")
        )
        == 0
    )
    extra = read_checkpoint(tmp_path / "run" / "policy.pt")["extra"]
    assert extra["policy"] == policy and extra["steps"] == 2


def test_a_model_of_other_rasters_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(ForwardModel(channels=8, spec=RasterSpec(height=237)), tmp_path / "model.pt")
    assert main(arguments(tmp_path, "vg")) == 1
    error = capsys.readouterr().err
    assert "model.pt: was trained on rasters" in error and error.endswith("; add raster.height=237\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_policy_learns_in_a_longer_raster(tmp_path: Path) -> None:
    save_model(ForwardModel(channels=8, spec=RasterSpec(height=237)), tmp_path / "model.pt")
    assert main(arguments(tmp_path, "vg", "raster=long")) == 0
    assert load(tmp_path / "run" / "policy.pt").spec == RasterSpec(height=237)


@pytest.mark.slow
def test_a_model_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    """In a process of its own, since in tests the annotations refuse it first."""
    save_model(make_split(), tmp_path / "model.pt")
    words = arguments(tmp_path, "mpur_coupled", "policy.drive.num_episodes=0")
    done = subprocess.run(
        [sys.executable, "-m", "worldmodel.app.cli", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "needs a CoupledModel, got a ForwardModel" in done.stderr
    assert "Traceback" not in done.stderr
