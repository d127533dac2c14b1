"""What every optimiser shares: how it is called, what it returns, and how two of them make a third.

An optimiser is a pure function of an objective, points to start from and bounds. It knows neither action
sequences nor world models; `planners.online` applies it to them. Scenes never influence one another, NaN
ranks last, and what is returned is the best point ever evaluated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from worldmodel.protocols import Objective

IsOver = Callable[[], bool]
"""Whether the time is used up; asked before every iteration but the first."""


def never() -> bool:
    """Returns that there is time."""
    return False


@dataclass(frozen=True)
class Minimum:
    """The best of what an optimiser tried in each scene.

    Attributes:
        argument: what was found.
        cost: its cost; infinite where every candidate cost NaN.
        others: further good points, if the optimiser keeps any.
    """

    argument: Float[Tensor, "B *P"]
    cost: Float[Tensor, " B"]
    others: Float[Tensor, "B N *P"] | None = None


@runtime_checkable
class Optimizer(Protocol):
    """Minimises an objective within bounds; `functools.partial` of the functions here gives its numbers."""

    def __call__(
        self,
        objective: Objective,
        start: Float[Tensor, "B N *P"],
        *,
        low: Float[Tensor, "*#P"],
        high: Float[Tensor, "*#P"],
        generator: Generator | None = None,
        is_over: IsOver = never,
    ) -> Minimum:
        """Returns the best point met; never worse than the best start.

        Args:
            objective: `(B, N, *P)` -> cost `(B, N)`, for any `N`.
            start: points to start from, the most trusted first; those outside of the bounds are clamped.
            low: bounds that broadcast against `start`.
            high: see `low`.
            generator: of an optimiser that samples; all scenes share its numbers.
            is_over: ends the search early.
        """
        ...


def chain(
    objective: Objective,
    start: Float[Tensor, "B N *P"],
    *,
    low: Float[Tensor, "*#P"],
    high: Float[Tensor, "*#P"],
    generator: Generator | None = None,
    is_over: IsOver = never,
    stages: Sequence[Optimizer],
) -> Minimum:
    """Returns the best point met by several optimisers, each starting from what the one before found.

    Arguments not named here are those of `Optimizer`.

    Args:
        stages: the optimisers, such as sampling and then a gradient.
    """
    found = nothing_yet(start[:, 0].clamp(low, high))
    for number, stage in enumerate(stages):
        if number and is_over():
            break
        after = stage(objective, start, low=low, high=high, generator=generator, is_over=is_over)
        found = improved(found, after.argument, after.cost)
        start = found.argument.unsqueeze(1)
    return found


def nothing_yet(point: Float[Tensor, "B *P"]) -> Minimum:
    """Returns points that anything finite is better than."""
    return Minimum(point, torch.full_like(point.flatten(1)[:, 0], torch.inf))


def improved(found: Minimum, point: Float[Tensor, "B *P"], cost: Float[Tensor, " B"]) -> Minimum:
    """Returns, row by row, the better of what was found and a new point; NaN is never better."""
    is_better = cost < found.cost
    argument = torch.where(expand(is_better, point), point, found.argument)
    return Minimum(argument, torch.where(is_better, cost, found.cost))


def cheapest(point: Float[Tensor, "B N *P"], cost: Float[Tensor, "B N"]) -> Minimum:
    """Returns the best candidate of each scene; NaN counts as infinite."""
    lowest, winner = cost.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf).min(dim=1)
    return Minimum(point[torch.arange(len(point), device=point.device), winner], lowest)


def expand(mask: Bool[Tensor, "*B"], like: Tensor) -> Tensor:
    """Returns the mask with dimensions of size 1 added until it has as many as `like`."""
    return mask.reshape(mask.shape + (1,) * (like.ndim - mask.ndim))
