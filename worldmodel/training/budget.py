"""How long a training may take."""

import time
from typing import Any

import lightning
import torch


class TimeBudget(lightning.Callback):
    """Stops the training after `seconds`; None: never. Time used before an interruption counts.

    Several processes go by the clock of the first, since the learning rate depends on it.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds, self.used = seconds, 0.0
        self._start = 0.0

    def share(self) -> float:
        """Returns how much of the budget is used up: 0 at the start, 1 at the end."""
        return self.used / self.seconds if self.seconds else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Returns the seconds used."""
        return {"used": self.used}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on after the seconds used."""
        self.used = float(state["used"])

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Starts the clock."""
        self._start = time.monotonic() - self.used

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        """Reads the clock."""
        self.used = time.monotonic() - self._start
        if trainer.world_size > 1:
            used = torch.tensor(self.used, device=pl_module.device)
            torch.distributed.broadcast(used, src=0)
            self.used = float(used)
        if self.seconds is not None and self.used >= self.seconds:
            trainer.should_stop = True
