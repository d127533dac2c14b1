"""A progress bar for training that costs the training nothing."""

import time
from typing import Any

import lightning
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS = 0.5
"""Between two updates."""


class TrainingBar(lightning.Callback):
    """Shows the step, and the newest error every half second."""

    def __init__(self, console: Console, name: str, *, num_steps: int) -> None:
        self.bar = Progress(
            TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[error]}"), console=console, auto_refresh=False, transient=True,
        )  # fmt: skip
        self.num_steps, self.shown = num_steps, 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Draws the bar."""
        if trainer.is_global_zero:
            self.bar.start()
            self.bar.add_task("", total=self.num_steps, completed=trainer.global_step, error="")

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Draws it anew, where it is due."""
        if self.bar.task_ids and time.monotonic() - self.shown > SECONDS:
            self.shown = time.monotonic()
            error = f"loss {float(outputs['loss']):.4f}"
            self.bar.update(self.bar.task_ids[0], completed=trainer.global_step, error=error)
            self.bar.refresh()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Removes it."""
        self.bar.stop()

    def on_exception(self, *args: Any) -> None:
        """Removes it."""
        self.bar.stop()
