"""The weights that did best on the validation windows."""

from typing import Any

import lightning
from torch import nn


class KeepBest(lightning.Callback):
    """Remembers the weights of `model` whenever the logged `monitor` is lower than ever before."""

    def __init__(self, model: nn.Module, *, monitor: str = "val/mse") -> None:
        self.model, self.monitor = model, monitor
        self.score, self.step = float("inf"), -1
        self.weights: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Returns the best score so far with its weights."""
        return {"score": self.score, "step": self.step, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up the best score so far."""
        self.score, self.step, self.weights = state["score"], state["step"], state["weights"]

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Compares.

        Raises:
            ValueError: nothing of this name is logged.
        """
        found = trainer.callback_metrics
        if self.monitor not in found:
            raise ValueError(
                f"monitor={self.monitor!r} is not logged, expected one of {', '.join(sorted(found))}"
            )
        self.compare(float(found[self.monitor]), trainer.global_step)

    def compare(self, score: float, step: int) -> None:
        """Remembers the weights of now if their score is lower than any before."""
        if score < self.score:
            self.score, self.step = score, step
            self.weights = {name: part.detach().clone() for name, part in self.model.state_dict().items()}

    def restore(self) -> bool:
        """Puts the best weights back into the model, and returns whether there are any."""
        if self.weights is None:
            return False
        self.model.load_state_dict(self.weights)
        return True
