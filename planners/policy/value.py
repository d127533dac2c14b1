"""A value at the horizon's end: what driving on is going to cost, learnt by temporal differences.

`V(s_t) ~ sum_{k>=t} gamma^(k-t) C(s_k)`. The policy pays `gamma^T V(s_T)` beside the imagined cost; the value
learns from the same drive, its targets the costs to the horizon's end and itself from there on (n-step TD).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from planners.policy.loss import Drive, PolicyLoss
from planners.policy.network import PolicyNetwork, ValueNetwork
from planners.policy.view import look
from worldmodel.types import Clip


@dataclass(frozen=True)
class Value:
    """Adds the value at the horizon's end to the imagined cost, and trains it.

    Attributes:
        network: sees what the policy sees.
        weight: of the value in the policy's loss.
        error_weight: of the squared error of the value, in units of its `scale`.
    """

    network: ValueNetwork
    weight: float = 1.0
    error_weight: float = 1.0

    @property
    def modules(self) -> Sequence[nn.Module]:
        """The value network."""
        return (self.network,)

    def prepare(self, clips: Sequence[Clip], *, history: int, generator: Generator) -> None:
        """Does nothing."""

    def __call__(self, policy: PolicyNetwork, drive: Drive, *, generator: Generator) -> PolicyLoss:
        total = drive.cost.total  # (B, T)
        horizon = total.shape[1]
        with frozen(self.network):  # the policy may not lower its cost by changing what it is told
            last = self.network(look(drive.dream.last, policy.view_spec))
        targets = returns(total.detach(), last.detach(), drive.discount)
        guesses = self.network(drive.dream.views).unflatten(0, (-1, horizon))
        error = ((guesses - targets) / self.network.scale).square().mean()
        tail = drive.discount**horizon * last.mean() / horizon
        terms = {"value": last.mean().detach(), "value_error": error.detach()}
        return PolicyLoss(self.weight * tail + self.error_weight * error, terms)


def returns(cost: Float[Tensor, "B T"], last: Float[Tensor, " B"], discount: float) -> Float[Tensor, "B T"]:
    """Returns the discounted costs from each step on, `last` standing for those after the horizon."""
    found, ahead = [], last
    for step in reversed(cost.unbind(1)):
        ahead = step + discount * ahead
        found.append(ahead)
    return torch.stack(found[::-1], dim=1)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Lets gradients pass through a module and not into it, for what is computed meanwhile."""
    before = [part.requires_grad for part in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for part, was in zip(module.parameters(), before, strict=True):
            part.requires_grad_(was)
