"""The cross-entropy method, and its sample-efficient form: the Gaussian moves to the best candidates."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from planners.optimizer import IsOver, Minimum, expand, never
from planners.sampling import Gaussian, elites, search
from worldmodel.protocols import Objective


def cem(
    objective: Objective,
    start: Float[Tensor, "B N *P"],
    *,
    low: Float[Tensor, "*#P"],
    high: Float[Tensor, "*#P"],
    generator: Generator | None = None,
    is_over: IsOver = never,
    num_iterations: int = 5,
    num_samples: int = 64,
    num_elites: int = 8,
    std: float = 0.5,
    momentum: float = 0.1,
    max_rows: int = 512,
) -> Minimum:
    """Returns the cheapest point met by the cross-entropy method (Rubinstein 1999).

    Arguments not named here are those of `Optimizer`.

    Args:
        num_iterations: refits.
        num_samples: of each.
        num_elites: best candidates that the Gaussian is fitted to.
        std: to begin with, in half distances between the bounds.
        momentum: share of the old Gaussian in the new one.
        max_rows: see `search`.
    """
    return search(
        objective, start, low=low, high=high, generator=generator, is_over=is_over,
        refit=partial(fit_elites, num_elites=num_elites, momentum=momentum),
        num_iterations=num_iterations, num_samples=num_samples, std=std, max_rows=max_rows,
    )  # fmt: skip


def icem(
    objective: Objective,
    start: Float[Tensor, "B N *P"],
    *,
    low: Float[Tensor, "*#P"],
    high: Float[Tensor, "*#P"],
    generator: Generator | None = None,
    is_over: IsOver = never,
    num_iterations: int = 5,
    num_samples: int = 64,
    num_elites: int = 10,
    share_kept: float = 0.3,
    colour: float = 2.5,
    decay: float = 1.25,
    std: float = 0.5,
    momentum: float = 0.1,
    max_rows: int = 512,
) -> Minimum:
    """Returns the cheapest point met by iCEM (Pinneri et al. 2020), with its published numbers.

    It differs from `cem` by noise that is coloured over time, by elites that live on, and by populations that
    shrink.

    Arguments not named here are those of `Optimizer`.

    Args:
        num_iterations: refits.
        num_samples: of the first; see `decay`.
        num_elites: best candidates that the Gaussian is fitted to.
        share_kept: of the elites, evaluated again in the next iteration.
        colour: exponent of the noise's power spectrum.
        decay: every iteration draws so many times fewer samples.
        std: to begin with, in half distances between the bounds.
        momentum: share of the old Gaussian in the new one.
        max_rows: see `search`.
    """
    return search(
        objective, start, low=low, high=high, generator=generator, is_over=is_over,
        refit=partial(fit_elites, num_elites=num_elites, momentum=momentum),
        num_iterations=num_iterations, num_samples=num_samples, std=std, max_rows=max_rows,
        colour=colour, decay=decay, num_kept=round(share_kept * num_elites),
    )  # fmt: skip


def fit_elites(
    around: Gaussian,
    point: Float[Tensor, "B N *P"],
    cost: Float[Tensor, "B N"],
    *,
    num_elites: int,
    momentum: float,
) -> Gaussian:
    """Returns mean and deviation of the elites, mixed with the old ones; infinite costs make no elites."""
    best = elites(point, cost, num_elites)
    weight = expand(elites(cost, cost, num_elites).isfinite(), best).to(best)
    weight = weight / weight.sum(dim=1, keepdim=True).clamp_min(1.0)
    mean = (weight * best).sum(dim=1)
    std = (weight * (best - mean[:, None]).square()).sum(dim=1).sqrt()
    return Gaussian(torch.lerp(mean, around.mean, momentum), torch.lerp(std, around.std, momentum))
