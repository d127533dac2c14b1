"""Training the forward model: unroll, compare with what happened, step."""

from collections.abc import Callable, Mapping
from typing import Any

import lightning
import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from worldmodel.models import ForwardModel, Latent, masked_mse, occupancy_loss
from worldmodel.models.checkpoint import build, plain
from worldmodel.scene import Channel
from worldmodel.training.distributed import mean_over_processes
from worldmodel.training.optimizer import learnt_groups, ramp, scheduled
from worldmodel.types import Clip


class ForwardModule(lightning.LightningModule):
    """Minimises the prediction error of the unrolled model plus the latents' regulariser.

    Args:
        model: the forward model.
        loss_fn: `(logits, target, covered, count_fn=) -> scalar` (`worldmodel.models.loss`).
        optimizer: parameters -> optimiser.
        num_steps: length of the learning-rate schedule.
        elapsed: share of a time budget that is used up; the schedule is over with it too.
        unroll: further arguments of the model's `unroll_clip` in training.
        num_decoded: frames of each core step that are decoded and compared, drawn anew for each batch; all
            of them when left out.
        penalty_ramp: the latents' regulariser grows over this share of the schedule, from 1e-4 of its weight
            to all. A latent that pays from the start says nothing before it has found out what to say, and
            stays so; one that never pays enough is left to say what the past says already.
    """

    def __init__(
        self,
        model: ForwardModel,
        *,
        optimizer: Callable[..., torch.optim.Optimizer],
        num_steps: int,
        elapsed: Callable[[], float] = lambda: 0.0,
        unroll: Mapping[str, Any] | None = None,
        num_decoded: int | None = None,
        penalty_ramp: float = 0.0,
        loss_fn: Callable[..., Tensor] = occupancy_loss,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss_fn = loss_fn
        self.optimizer_fn = optimizer
        self.num_steps, self.elapsed = num_steps, elapsed
        self.unroll = dict(unroll or {})
        self.num_decoded, self.penalty_ramp = num_decoded, penalty_ramp

    def training_step(self, clip: Clip, batch_idx: int) -> Tensor:
        """Returns prediction error + penalty, and logs both."""
        reached = min(self.model.stride, clip.image.shape[1] - self.model.history)
        frames = torch.randperm(reached)[: self.num_decoded].sort().values.tolist()
        unroll = self.model.unroll_clip(clip, frames=frames, **self.unroll)
        target, covered = self.target(clip)
        decoded = self.model.decoded_frames(target.shape[1], frames)
        target, covered = target[:, decoded], covered[:, decoded]
        error = self.loss_fn(unroll.logits, target, covered, count_fn=mean_over_processes)
        penalty = unroll.penalty.mean()
        self.log_dict(
            {"train/error": error, "train/penalty": penalty}, batch_size=len(target), sync_dist=True
        )
        step, share = self.global_step, self.penalty_ramp
        return error + ramp(step, self.num_steps, share=share, elapsed=self.elapsed()) * penalty

    def validation_step(self, clip: Clip, batch_idx: int) -> None:
        """Logs the squared error with latents drawn from the prior, as at planning time."""
        target, covered = self.target(clip)
        logits = self.model.unroll_clip(clip, use_prior=True).logits
        self.log("val/mse", masked_mse(logits, target, covered), batch_size=len(target), sync_dist=True)

    def target(self, clip: Clip) -> tuple[Float[Tensor, "B T 1 H W"], Tensor]:
        """Returns the future vehicle rasters in [0, 1] and their mask of covered rows."""
        channel = self.model.spec.channels.index(Channel.VEHICLES)
        future = clip.image[:, self.model.history :, channel : channel + 1]
        return future.to(self.dtype) / 255, clip.covered[:, self.model.history :]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns the optimiser with a warm-up and cosine schedule by step."""
        optimizer = self.optimizer_fn(learnt_groups(self.model))
        return scheduled(optimizer, self.num_steps, elapsed=self.elapsed)


OF_THE_LATENT = ("latent.", "expander.", "surprise_encoder.", "target_encoder.", "summary.")
"""Where the weights of a model are that another latent does not take over."""


def with_latent(model: nn.Module, latent: Latent) -> nn.Module:
    """Returns a copy of a trained model with another latent: the warm start of a stochastic model.

    Every weight the two have in common is copied; the latent's own are new. What is usual for the model's
    uncertainty is not copied: that of the new one has to be measured.
    """
    config = plain(model.config) | {"latent": latent.config}
    warm: nn.Module = build(config)
    left = (*OF_THE_LATENT, "variance_")
    known = {name: value for name, value in model.state_dict().items() if not name.startswith(left)}
    unexpected = warm.load_state_dict(known, strict=False).unexpected_keys
    if unexpected:
        raise ValueError(f"weights {unexpected} have no place in the model with {type(latent).__name__}")
    return warm
