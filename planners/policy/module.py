"""Training a policy: drive or compare, pay, step. The only file of this package that knows Lightning."""

from collections.abc import Callable

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn

from planners.policy.loss import PolicyLossFn
from planners.policy.network import PolicyNetwork
from worldmodel.training import learnt_groups, scheduled
from worldmodel.types import Clip


class PolicyModule(lightning.LightningModule):
    """Minimises a loss of the policy over batches of training windows.

    Args:
        model: the policy.
        loss_fn: what it is trained on.
        optimizer: parameters -> optimiser.
        num_steps: length of the learning-rate schedule.
        elapsed: share of a time budget that is used up; the schedule is over with it too.
    """

    def __init__(
        self,
        model: PolicyNetwork,
        *,
        loss_fn: PolicyLossFn,
        optimizer: Callable[..., torch.optim.Optimizer],
        num_steps: int,
        elapsed: Callable[[], float] = lambda: 0.0,
    ) -> None:
        super().__init__()
        self.model, self.loss_fn = model, loss_fn
        self.learnt_too = nn.ModuleList(loss_fn.modules)
        self.optimizer_fn = optimizer
        self.num_steps, self.elapsed = num_steps, elapsed

    def training_step(self, clip: Clip, batch_idx: int) -> Tensor:
        """Returns the loss, and logs what it is made of."""
        loss = self.loss_fn(self.model, clip, generator=self._generator())
        logged = {"loss": loss.total.detach(), **loss.terms}
        self.log_dict({f"train/{name}": value for name, value in logged.items()}, batch_size=len(clip.size))
        return loss.total

    def validation_step(self, clip: Clip, batch_idx: int) -> None:
        """Logs the same loss on windows that were not trained on."""
        loss = self.loss_fn(self.model, clip, generator=self._generator())
        self.log("val/loss", loss.total, batch_size=len(clip.size), prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns the optimiser with a warm-up and cosine schedule by step."""
        optimizer = self.optimizer_fn(learnt_groups(nn.ModuleList([self.model, self.learnt_too])))
        return scheduled(optimizer, self.num_steps, elapsed=self.elapsed)

    def _generator(self) -> Generator:
        """Random numbers of this step: they follow from the global seed, which follows from the step."""
        seed = int(torch.randint(2**31, ()))
        return Generator(self.device).manual_seed(seed)
