"""Training: a kill costs time and nothing else, the best weights are kept, processes add up."""

from pathlib import Path
from typing import Any

import pytest
import torch

from worldmodel.app.cli import main
from worldmodel.app.train import read_metrics
from worldmodel.data import Span, Split, make_recording, save_store
from worldmodel.models import load_model
from worldmodel.training import TimeBudget

TINY = (
    "data=store", "seconds=null", "threads=1", "log_every=1", "model.channels=8", "model.history=4",
    "+model.spec._target_=worldmodel.scene.RasterSpec", "+model.spec.height=32", "+model.spec.width=8",
    "loader.horizon=10", "loader.batch_size=2", "loader.val_batches=1", "validation.every=4",
    "resume_every=3", "phases.0.num_steps=12", "phases.1.num_steps=6", "uncertainty.num_batches=1",
)  # fmt: skip
PHASES = ("deterministic", "latent")


class KilledError(BaseException):
    """Stands for a kill: nothing of ours catches it."""


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


def kill_at(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Kills the training after so many steps of this process, in the middle of the last."""
    left = [steps]
    count = TimeBudget.on_train_batch_end

    def killing(self: TimeBudget, *args: Any) -> None:
        count(self, *args)
        left[0] -= 1
        if not left[0]:
            raise KilledError

    monkeypatch.setattr(TimeBudget, "on_train_batch_end", killing)


def test_killed_again_and_again_a_training_takes_the_same_steps(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(store, tmp_path / "whole") == 0
    kills = 0
    for steps in (
        2,
        5,
        8,
        7,
    ):  # before the first state, at a validation, in the second epoch, in the second phase
        with monkeypatch.context() as patch:
            kill_at(patch, steps)
            with pytest.raises(KilledError):
                train(store, tmp_path / "killed")
            kills += 1
    assert train(store, tmp_path / "killed") == 0
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert len(read_metrics(tmp_path / "whole/metrics/deterministic/metrics.csv")["train/error"]) == 12
    whole, killed = (weights(tmp_path / name / "model.pt") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert not (tmp_path / "killed" / "training.pt").exists()
