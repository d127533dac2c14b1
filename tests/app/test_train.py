"""Training: a kill costs time and nothing else, the best weights are kept, processes add up."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.app.factories import KilledError, kill_at
from worldmodel.app.cli import main
from worldmodel.data import Span, Split, make_recording, save_store
from worldmodel.models import load_model, read_checkpoint
from worldmodel.training import GrowingShare
from worldmodel.training.csv_logger import read_metrics

TINY = (
    "data=store", "seconds=null", "threads=1", "log_every=1", "model.channels=8", "model.history=4",
    "raster.height=32", "raster.width=8",
    "loader.horizon=10", "loader.batch_size=2", "loader.val_batches=1", "validation.every=4",
    "resume_every=4", "phases.0.num_steps=8", "phases.1.num_steps=6", "uncertainty.num_batches=1",
)  # fmt: skip
PHASES = ("deterministic", "latent")
LOSS = "train/error"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose epochs have 7 batches of two windows."""
    folder = tmp_path_factory.mktemp("store")
    recording = make_recording(seed=1, name="road", num_vehicles=5, num_frames=60)
    split = Split(train=(Span("road", 0, 16),), val=(Span("road", 20, 40),), test=(Span("road", 40, 60),))
    save_store([recording], split, folder)
    return folder


def train(store: Path, run: Path, *overrides: str) -> int:
    return main(["train", f"data.path={store}", f"run={run}", *TINY, *overrides])


def rows(run: Path) -> list[str]:
    return [(run / "metrics" / phase / "metrics.csv").read_text() for phase in PHASES]


def weights(path: Path) -> dict[str, Any]:
    return load_model(path).state_dict()


@pytest.mark.slow
def test_killed_again_and_again_a_training_takes_the_same_steps(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(store, tmp_path / "whole") == 0
    for steps in (2, 6, 9):  # before the first state, after a validation, in the second phase
        with monkeypatch.context() as patch:
            kill_at(patch, steps)
            with pytest.raises(KilledError):
                train(store, tmp_path / "killed")
    begun = torch.load(tmp_path / "killed" / "training.pt", weights_only=True)
    assert (begun["phase"], begun["step"]) == ("latent", 4)
    assert train(store, tmp_path / "killed") == 0
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert len(read_metrics(tmp_path / "whole/metrics/deterministic/metrics.csv")["train/error"]) == 8
    whole, killed = (weights(tmp_path / name / "model.pt") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert not (tmp_path / "killed" / "training.pt").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        ("uncertainty.num_batches=1",),
        ("uncertainty.num_batches=1", "model=tracking", "model.tracker.lags=1"),
        (
            "model=coupled_small",
            "model.features=[4,8,8]",
            "model.lags=[0,1]",
            "raster.width=16",
            "latent.features=8",
        ),
    ],
    ids=("small", "tracking", "coupled_small"),
)
def test_mixed_precision_learns_about_the_same(model: tuple[str, ...], store: Path, tmp_path: Path) -> None:
    small = [one for one in TINY if not one.startswith("uncertainty")]
    for name, precision in (("single", "32-true"), ("mixed", "bf16-mixed")):
        words = [f"data.path={store}", f"run={tmp_path / name}", *small, *model, f"precision={precision}"]
        assert main(["train", *words, "phases.0.num_steps=3", "phases.1.num_steps=1"]) == 0
    single, mixed = (
        [error for _, error in read_metrics(tmp_path / name / "metrics/deterministic/metrics.csv")[LOSS]]
        for name in ("single", "mixed")
    )
    assert mixed == pytest.approx(single, rel=0.05)
    one, other = (weights(tmp_path / name / "model.pt") for name in ("single", "mixed"))
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert all(weight.dtype != torch.bfloat16 for weight in other.values())


def test_a_training_begins_with_given_weights(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of a model with a latent, which training without steps leaves as they are."""
    assert train(store, tmp_path / "first") == 0
    begin = f"init={tmp_path / 'first/model.pt'}"
    still = ("phases.0.num_steps=1", "phases.1.num_steps=1", "optimizer.lr=0")
    assert train(store, tmp_path / "second", begin, *still) == 0
    first, second = (weights(tmp_path / run / "model.pt") for run in ("first", "second"))
    assert torch.equal(first["decoder.weight"], second["decoder.weight"])
    assert not torch.equal(first["decoder.weight"], torch.zeros_like(first["decoder.weight"]))
    capsys.readouterr()
    assert train(store, tmp_path / "third", begin, "model.channels=4") == 1
    said = capsys.readouterr().err
    assert "model.pt: mixer.0.weight: got (8, 32, 1, 1), expected (4, 32, 1, 1); begin with" in said
    assert main(["train", "policy=il", begin, f"run={tmp_path / 'fourth'}"]) == 2
    assert "policies begin anew" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_or_terminated_a_training_says_how_to_go_on(
    number: signal.Signals, code: int, store: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    kill_at(monkeypatch, 6, lambda: os.kill(os.getpid(), number))
    try:
        assert train(store, tmp_path / "run") == code
    finally:
        signal.signal(signal.SIGINT, before)  # which Lightning ignores from here on
    *_, hint, last = capsys.readouterr().err.splitlines()
    assert hint == f"train: go on with run={tmp_path / 'run'}"
    assert last == "worldmodel: interrupted; what train had finished is kept"
    monkeypatch.undo()
    assert train(store, tmp_path / "run") == 0


def test_the_best_weights_are_kept_where_that_is_asked_for(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(store, tmp_path, "validation.keep=best", "phases.1.num_steps=1", "loader.ahead=2") == 0
    scores = dict(read_metrics(tmp_path / "metrics/deterministic/metrics.csv")["val/mse"])
    extra = read_checkpoint(tmp_path / "model_deterministic.pt")["extra"]
    assert extra["best_score"] == min(scores.values())
    assert scores[extra["best_step"] - 1] == extra["best_score"]
    assert extra["steps"] == 8
    (said,) = (line for line in capsys.readouterr().err.splitlines() if "deterministic: 8 steps" in line)
    errors = dict(read_metrics(tmp_path / "metrics/deterministic/metrics.csv")[LOSS])
    assert f"train/error {errors[7]:.4g}, val/mse {scores[7]:.4g}" in said


def test_every_phase_has_its_own_latent(store: Path, tmp_path: Path) -> None:
    """The first one, too; none, where it says null, whatever the phase before had."""
    first = "{name:first,num_steps:1,share:0.4,latent:${latent}}"
    other = "{name:other,num_steps:1,share:0.3,latent:{_target_:worldmodel.models.GaussianLatent,"
    other += "channels:8,features:16,dim:3}}"
    last = "{name:last,num_steps:1,share:0.3,latent:null}"
    words = [word for word in TINY if not word.startswith("phases")]
    words += [f"data.path={store}", f"run={tmp_path}", "validation.every=null", "uncertainty=null"]
    assert main(["train", *words, f"phases=[{first},{other},{last}]"]) == 0
    models = [load_model(tmp_path / f"model_{name}.pt") for name in ("first", "other", "last")]
    assert [type(model.latent).__name__ for model in models] == ["LocalLatent", "GaussianLatent", "NoLatent"]
    assert [model.latent.dim for model in models] == [60, 3, 0]


def test_the_horizon_grows_with_the_time_where_that_ends_the_training(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six tenths of a second for a million steps: it is over by time, and the horizon has grown by then."""
    asked: list[tuple[float, int]] = []
    horizon = GrowingShare.__call__

    def noting(self: GrowingShare, step: int, over: float) -> int:
        asked.append((over, horizon(self, step, over)))
        return asked[-1][1]

    monkeypatch.setattr(GrowingShare, "__call__", noting)
    phase = "phases=[{name:deterministic,num_steps:1000000,share:1.0,latent:null}]"
    words = [word for word in TINY if not word.startswith(("phases", "seconds", "loader.horizon"))]
    words += [f"data.path={store}", f"run={tmp_path}", "validation.every=null", "uncertainty=null", phase]
    words += ["seconds=0.6", "curriculum=growing", "curriculum.start=5", "loader.horizon=10"]
    assert main(["train", *words]) == 0
    assert asked[0] == (0.0, 5)
    assert asked[-1][0] > 0.5 and asked[-1][1] == 10


def test_time_ends_a_training_that_validates_nothing(store: Path, tmp_path: Path) -> None:
    wanted = ["seconds=1e-6", "validation.every=null", "curriculum=growing", "loader.ahead=2"]
    assert train(store, tmp_path, *wanted) == 0
    for phase in PHASES:
        found = read_metrics(tmp_path / "metrics" / phase / "metrics.csv")
        assert [step for step, _ in found["train/error"]] == [0]
        assert "val/mse" not in found


@pytest.mark.parametrize(
    ("overrides", "code", "message"),
    [
        (["validation.keep=best", "validation.every=null"], 1, "needs validation.every=STEPS"),
        (["devices=2", "run=null"], 2, "add run=FOLDER"),
        (["loader.batch_size=0"], 1, "batch_size=0"),
        (
            ["validation.keep=best", "validation.monitor=val/foo"],
            1,
            "'val/foo' is not logged, expected one of",
        ),
        (["latent._target_=mine.Nothing"], 2, "_target_: mine.Nothing does not exist"),
        (["data.path=???"], 2, "data.path is missing; add data.path=... to the command"),
        (["seconds=abc"], 2, "seconds=abc, expected more than 0, or null"),
        (["seconds=-5"], 2, "seconds=-5, expected"),
        (["threads=0"], 2, "threads=0, expected a whole number, at least 1"),
        (["seed=1.5"], 2, "seed=1.5, expected a whole number"),
        (["optimizer=sgd"], 2, "optimizer=sgd, but it is AdamW"),
        (["model.channels=0"], 1, "model cannot be made of its values"),
        (["module=coupled"], 2, "CoupledModule does not train a ForwardModel; leave module="),
        (["accelerator=cuda"], 2, "accelerator=cuda, devices=1, precision=32-true: "),
    ],
)
def test_what_cannot_be_trained_is_refused(
    overrides: list[str], code: int, message: str, store: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert train(store, tmp_path, *overrides) == code
    assert message in capsys.readouterr().err


def test_a_validation_part_that_is_too_short_may_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = make_recording(seed=1, name="road", num_vehicles=5, num_frames=60)
    split = Split(train=(Span("road", 0, 16),), val=(Span("road", 20, 33),))  # windows have 14 frames
    save_store([recording], split, tmp_path / "store")
    one = ["phases.0.num_steps=1", "phases.1.num_steps=1"]
    assert train(tmp_path / "store", tmp_path / "run", *one) == 1
    assert "val: no window of" in (error := capsys.readouterr().err)
    assert "or train without validation: validation.every=null" in error
    assert train(tmp_path / "store", tmp_path / "other", *one, "validation.every=null") == 0


def start(store: Path, run: Path, *overrides: str) -> "subprocess.Popen[str]":
    """Starts the command as a user does."""
    command = [sys.executable, "-m", "worldmodel.app.cli", "train", f"data.path={store}", f"run={run}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *TINY, *overrides],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: "subprocess.Popen[str]") -> None:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output


@pytest.mark.slow
def test_a_killed_process_carries_on(store: Path, tmp_path: Path) -> None:
    finish(start(store, tmp_path / "whole"))
    state = tmp_path / "killed" / "training.pt"
    process = start(store, tmp_path / "killed")
    deadline = time.monotonic() + 600
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert state.exists()
    finish(start(store, tmp_path / "killed"))
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")


@pytest.mark.slow
def test_the_model_of_every_phase_knows_its_uncertainty(store: Path, tmp_path: Path) -> None:
    """A policy may learn in any of them."""
    assert train(store, tmp_path) == 0
    found = [load_model(tmp_path / f"model_{name}.pt").variance_mean for name in PHASES]
    assert all(one.numel() == 10 and bool((one > 0).all()) for one in found)
    assert not torch.equal(*found)


@pytest.mark.slow
def test_two_processes_and_compiled_parts_learn_what_one_plain_process_does(
    store: Path, tmp_path: Path
) -> None:
    """What is random in a step differs between processes, so dropout and latent are left out."""
    exact = ["model.dropout=0.0", "module.num_decoded=null", "phases.0.num_steps=5"]
    exact += ["phases.1.num_steps=1", "latent=none", "validation.every=null"]
    finish(start(store, tmp_path / "one", *exact, "loader.batch_size=4"))
    finish(start(store, tmp_path / "two", *exact, "loader.batch_size=2", "devices=2", "strategy=ddp"))
    finish(start(store, tmp_path / "compiled", *exact, "loader.batch_size=4", "compile=true"))
    one = weights(tmp_path / "one" / "model_deterministic.pt")
    errors = read_metrics(tmp_path / "one/metrics/deterministic/metrics.csv")["train/error"]
    for other in ("two", "compiled"):
        found = read_metrics(tmp_path / other / "metrics/deterministic/metrics.csv")["train/error"]
        assert [step for step, _ in found] == [step for step, _ in errors] == list(range(5))
        assert [error for _, error in found] == pytest.approx([error for _, error in errors], rel=1e-5)
        for name, weight in weights(tmp_path / other / "model_deterministic.pt").items():
            torch.testing.assert_close(weight, one[name], rtol=1e-3, atol=2e-5)
