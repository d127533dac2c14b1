"""A training that a kill cannot set back far: its whole state, written again and again, whole or not at all.

Everything random in a step follows from its number (`StepSeeds`, `worldmodel.data.sampler`), and the state is
written between two steps, after the logs and the validation of the first. So a training that was killed and
carries on takes exactly the steps that it would have taken.

Lightning's own resumption is not used: it restores its loops' counters for the points in a step at which
its own callback saves, loses the row that is logged there, and knows no position in the data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning
import torch

from worldmodel.atomic import replacing
from worldmodel.training.csv_logger import CsvLogger

FORMAT = "highway-worldmodel/training-state"
VALIDATION = 2**40
"""No training step has this number."""


@runtime_checkable
class Stateful(Protocol):
    """Something that has come to somewhere in a training."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the state between two steps, of tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes a state up."""
        ...


@dataclass(frozen=True)
class TrainingState:
    """What a training has come to: steps taken, and the content of its file."""

    step: int = 0
    content: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, path: Path, phase: str) -> "TrainingState":
        """Returns the state that was written to `path` in this phase, or that of a training yet to begin."""
        if not path.exists():
            return cls()
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT or content["phase"] != phase:
            return cls()
        return cls(content["step"], content)


class Resume(lightning.Callback):
    """Writes the state of a training every `every` steps, and starts from `state`.

    Args:
        path: of the file.
        phase: that the state belongs to.
        state: where to begin; the loader has to begin there too.
        every: steps; None: never.
        parts: what else has a state.
    """

    def __init__(
        self,
        path: Path,
        *,
        phase: str,
        state: TrainingState,
        every: int | None,
        parts: Mapping[str, Stateful],
    ) -> None:
        self.path, self.phase, self.state, self.every, self.parts = path, phase, state, every, parts

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Restores the state."""
        content = self.state.content
        for number, logger in enumerate(_csv_loggers(trainer)):
            logger.keep(content["rows"][number] if content else 0)
        if not content:
            return
        pl_module.load_state_dict(content["module"])
        for optimizer, state in zip(trainer.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        for config, state in zip(trainer.lr_scheduler_configs, content["schedules"], strict=True):
            config.scheduler.load_state_dict(state)
        trainer.precision_plugin.load_state_dict(content["precision"])
        for name, state in content["parts"].items():
            self.parts[name].load_state_dict(state)
        _count_from(trainer, self.state.step)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        """Writes the state as the steps before have left it."""
        step = trainer.global_step
        if self.every and step > self.state.step and step % self.every == 0 and trainer.is_global_zero:
            self._write(trainer, pl_module)

    def _write(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        content = {
            "format": FORMAT,
            "phase": self.phase,
            "step": trainer.global_step,
            "rows": [len(logger.rows) for logger in _csv_loggers(trainer)],
            "module": pl_module.state_dict(),
            "optimizers": [one.state_dict() for one in trainer.optimizers],
            "schedules": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
            "precision": trainer.precision_plugin.state_dict(),
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
        }
        with replacing(self.path) as stream:
            torch.save(content, stream)


class StepSeeds(lightning.Callback):
    """Seeds torch anew for every step, from the number of the step and of the process.

    Validation batches always get the same seeds: their scores compare.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        """Seeds a training step."""
        _seed(pl_module.device, self.seed, trainer.global_step, trainer.global_rank)

    def on_validation_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Seeds a validation batch."""
        _seed(pl_module.device, self.seed, VALIDATION, batch_idx)


def _seed(device: torch.device, *numbers: int) -> None:
    seed = hash(numbers) % 2**63
    # `torch.manual_seed` formats a stack trace for every absent accelerator: a millisecond on a CPU.
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.manual_seed(seed)


def _csv_loggers(trainer: lightning.Trainer) -> list[CsvLogger]:
    return [one for one in trainer.loggers if isinstance(one, CsvLogger)]


def _count_from(trainer: lightning.Trainer, step: int) -> None:
    """Lets Lightning count its steps on from `step`: for `global_step`, logs and validation."""
    loop = trainer.fit_loop.epoch_loop
    loop._batches_that_stepped = step
    counted = loop.automatic_optimization.optim_progress.optimizer.step.total
    counted.ready = counted.completed = step
    loop.batch_progress.total.ready = step
