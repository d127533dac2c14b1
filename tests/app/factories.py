"""A store small enough to drive in a test, checkpoints of untrained models, and how trainings are killed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from worldmodel.data import Span, Split, make_recording, save_store
from worldmodel.models import ForwardModel, save_forward_model
from worldmodel.scene import RasterSpec
from worldmodel.training import TimeBudget


class KilledError(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def save_small_store(folder: Path, *, test: bool = True) -> Path:
    """Writes a store of two made-up recordings, the second of them for testing."""
    recordings = [
        make_recording(seed=1, name="first", num_vehicles=6, num_frames=80),
        make_recording(seed=2, name="second", num_vehicles=4, num_frames=70),
    ]
    split = Split(train=(Span("first", 0, 80),), test=(Span("second", 0, 70),) if test else ())
    save_store(recordings, split, folder)
    return folder


def save_model(path: Path, *, spec: RasterSpec | None = None) -> Path:
    """Writes an untrained checkpoint."""
    save_forward_model(ForwardModel(spec=spec, channels=8), path)
    return path


def kill() -> None:
    """Ends the process, as far as ours can tell."""
    raise KilledError


def kill_at(monkeypatch: pytest.MonkeyPatch, steps: int, end: Callable[[], None] = kill) -> None:
    """Kills the training after so many steps of this process, in the middle of the last."""
    left = [steps]
    count = TimeBudget.on_train_batch_end

    def killing(self: TimeBudget, *args: Any) -> None:
        count(self, *args)
        left[0] -= 1
        if not left[0]:
            end()

    monkeypatch.setattr(TimeBudget, "on_train_batch_end", killing)
