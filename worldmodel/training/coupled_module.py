"""Training the coupled model: unroll, compare every channel and the ego's motion with what happened, step."""

from collections.abc import Callable, Mapping
from typing import Any

import lightning
import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from worldmodel.data import Stats
from worldmodel.models import CoupledModel, masked_bce, masked_mse, occupancy_loss
from worldmodel.training.distributed import mean_over_processes
from worldmodel.training.optimizer import learnt_groups, scheduled
from worldmodel.types import Clip


class CoupledModule(lightning.LightningModule):
    """Minimises the error of image and motion of the unrolled model plus the latents' regulariser.

    Args:
        model: the coupled model.
        optimizer: parameters -> optimiser.
        num_steps: length of the learning-rate schedule.
        elapsed: share of a time budget that is used up; the schedule is over with it too.
        unroll: further arguments of the model's `unroll_clip` in training.
        loss_fn: of the vehicle channel, `(logits, target, covered, count_fn=) -> scalar`.
        road_weight: of the cross-entropy of each other channel.
        motion_weight: of the squared error of the ego's motion, in `CoupledModel.motion_unit`.
    """

    def __init__(
        self,
        model: CoupledModel,
        *,
        optimizer: Callable[..., torch.optim.Optimizer],
        num_steps: int,
        elapsed: Callable[[], float] = lambda: 0.0,
        unroll: Mapping[str, Any] | None = None,
        loss_fn: Callable[..., Tensor] = occupancy_loss,
        road_weight: float = 0.5,
        motion_weight: float = 3.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer_fn = optimizer
        self.num_steps, self.elapsed = num_steps, elapsed
        self.unroll = dict(unroll or {})
        self.loss_fn, self.road_weight, self.motion_weight = loss_fn, road_weight, motion_weight

    def training_step(self, clip: Clip, batch_idx: int) -> Tensor:
        """Returns the loss, and logs its terms."""
        total, terms = self.loss(clip)
        named = {f"train/{name}": value for name, value in terms.items()}
        self.log_dict(named, batch_size=len(clip.size), sync_dist=True)
        return total

    def loss(self, clip: Clip) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Returns the weighted sum of the errors + penalty, and each of them."""
        unroll = self.model.unroll_clip(clip, **self.unroll)
        target, covered = self.target(clip)
        names = [channel.name.lower() for channel in self.model.predicts]
        channels = zip(unroll.logits.split(1, 2), target.split(1, 2), names, strict=True)
        errors = {
            name: (masked_bce if index else self.loss_fn)(
                logits, frames, covered, count_fn=mean_over_processes
            )
            for index, (logits, frames, name) in enumerate(channels)
        }
        motion, penalty = self.motion_error(unroll.motion, clip), unroll.penalty.mean()
        road = sum(error for name, error in errors.items() if name != "vehicles")
        total = errors["vehicles"] + self.road_weight * road + self.motion_weight * motion + penalty
        return total, errors | {"motion": motion, "penalty": penalty, "error": errors["vehicles"]}

    def validation_step(self, clip: Clip, batch_idx: int) -> None:
        """Logs the squared error of vehicles and motion, latents drawn from the prior as at planning time."""
        target, covered = self.target(clip)
        unroll = self.model.unroll_clip(clip, use_prior=True)
        mse = masked_mse(unroll.logits[:, :, :1], target[:, :, :1], covered)
        self.log("val/mse", mse, batch_size=len(target), prog_bar=True, sync_dist=True)
        motion = self.motion_error(unroll.motion, clip)
        self.log("val/motion", motion, batch_size=len(target), sync_dist=True)

    def motion_error(self, motion: Float[Tensor, "B T 4"], clip: Clip) -> Float[Tensor, ""]:
        """Returns the mean squared error of the ego's motion."""
        return ((motion - self.model.future_motion(clip)) / self.model.motion_unit).square().mean()

    def target(self, clip: Clip) -> tuple[Float[Tensor, "B T C H W"], Tensor]:
        """Returns the future rasters in [0, 1] and their mask of covered rows."""
        return self.model.future_frames(clip), clip.covered[:, self.model.history :]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns the optimiser with a warm-up and cosine schedule by step."""
        optimizer = self.optimizer_fn(learnt_groups(self.model))
        return scheduled(optimizer, self.num_steps, elapsed=self.elapsed)


def set_motion_normalisation(model: CoupledModel, stats: Stats) -> None:
    """Sets mean and deviation of the ego's motion and actions, in place; they are saved with the weights."""
    for name in ("mean", "std"):
        for buffer, values in (("motion", f"state_{name}"), ("action", f"action_{name}")):
            getattr(model, f"{buffer}_{name}").copy_(torch.tensor(getattr(stats, values)))
