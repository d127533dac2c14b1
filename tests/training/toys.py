"""The smallest thing that Lightning trains: one number that grows by one with every step."""

from pathlib import Path

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader


class Counter(lightning.LightningModule):
    """Its parameter counts the steps; the score is the distance from `goal`."""

    def __init__(self, goal: float = 2.0) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)
        self.goal = goal
        self.noise: list[float] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.noise.append(float(torch.rand(())))
        self.log("train/error", self.model.weight.detach().sum())
        return -self.model.weight.sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        torch.rand(3)  # must not disturb the training
        self.log("val/mse", (self.model.weight.sum() - self.goal).square())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(module: lightning.LightningModule, num_steps: int, path: Path, **kwargs: object) -> lightning.Trainer:
    """Trains for `num_steps`; validates every step where there is something to validate on."""
    trainer = lightning.Trainer(
        accelerator="cpu", default_root_dir=path, max_steps=num_steps, max_epochs=-1, log_every_n_steps=1,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, check_val_every_n_epoch=None,
        **({"logger": False, "val_check_interval": 1} | kwargs),
    )  # fmt: skip
    batches = DataLoader(torch.zeros(100, 1))
    trainer.fit(module, batches, DataLoader(torch.zeros(1, 1)))
    return trainer
