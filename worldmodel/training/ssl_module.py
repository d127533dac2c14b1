"""Training an encoder without labels: clips, the objective's loss, a step."""

from collections.abc import Callable, Iterator

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from worldmodel.ssl import FrameClip, Pretraining, from_window
from worldmodel.training.optimizer import learnt_groups, scheduled
from worldmodel.types import Clip


class SSLModule(lightning.LightningModule):
    """Minimises the loss of a self-supervised objective.

    Args:
        model: encoder and objective.
        optimizer: parameters -> optimiser; one for all of them, whatever plays against what.
        num_steps: length of the learning-rate schedule.
        elapsed: share of a time budget that is used up; the schedule is over with it too.
        spacing: frames of the recording between two of a clip.
        refit_every: steps between two calls of the objective's `refit`; None: before the first step only.
        refit_batches: batches of training clips that it is given, those of the first steps each time, also
            in a training that is carried on.
    """

    def __init__(
        self,
        model: Pretraining,
        *,
        optimizer: Callable[..., torch.optim.Optimizer],
        num_steps: int,
        elapsed: Callable[[], float] = lambda: 0.0,
        spacing: int = 1,
        refit_every: int | None = None,
        refit_batches: int = 8,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer_fn = optimizer
        self.num_steps, self.elapsed = num_steps, elapsed
        self.spacing, self.refit_every, self.refit_batches = spacing, refit_every, refit_batches

    def clip(self, batch: Clip | FrameClip) -> FrameClip:
        """Returns a batch as objectives read it."""
        return from_window(batch, spacing=self.spacing) if isinstance(batch, Clip) else batch

    def on_train_batch_start(self, batch: Clip | FrameClip, batch_idx: int) -> None:
        """Refits where it is due."""
        step, every = self.global_step, self.refit_every
        if step == 0 or (every and step % every == 0):
            self.model.objective.refit(self.model.encoder, self._clips())

    def training_step(self, batch: Clip | FrameClip, batch_idx: int) -> Tensor:
        """Returns the loss, and logs its parts."""
        clip = self.clip(batch)
        losses = self.model(clip)
        self.log_dict(
            {f"train/{name}": value.detach() for name, value in losses.items()}, batch_size=clip.batch_size
        )
        return losses["loss"]

    def on_train_batch_end(self, outputs: object, batch: Clip | FrameClip, batch_idx: int) -> None:
        """Lets the objective follow the step."""
        self.model.objective.after_step(self.model.encoder)

    def validation_step(self, batch: Clip | FrameClip, batch_idx: int) -> None:
        """Logs the loss."""
        clip = self.clip(batch)
        self.log("val/loss", self.model(clip)["loss"], batch_size=clip.batch_size, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns the optimiser with a warm-up and cosine schedule by step."""
        optimizer = self.optimizer_fn(learnt_groups(self.model))
        return scheduled(optimizer, self.num_steps, elapsed=self.elapsed)

    def _clips(self) -> Iterator[FrameClip]:
        first = range(self.refit_batches)
        for batch in self.trainer.datamodule.train_batches(first):  # type: ignore[attr-defined]
            yield self.clip(self.transfer_batch_to_device(batch, self.device, 0))
