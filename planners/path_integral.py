"""Model predictive path integral control: the mean moves to the candidates, weighted by what they cost."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from planners.optimizer import IsOver, Minimum, never
from planners.sampling import Gaussian, search
from worldmodel.protocols import Objective


def mppi(
    objective: Objective,
    start: Float[Tensor, "B N *P"],
    *,
    low: Float[Tensor, "*#P"],
    high: Float[Tensor, "*#P"],
    generator: Generator | None = None,
    is_over: IsOver = never,
    num_iterations: int = 5,
    num_samples: int = 64,
    temperature: float = 0.2,
    std: float = 0.5,
    shrink: float = 0.8,
    max_rows: int = 512,
) -> Minimum:
    """Returns the cheapest point met by MPPI (Williams et al. 2017).

    Arguments not named here are those of `Optimizer`.

    Args:
        num_iterations: refits.
        num_samples: of each.
        temperature: in standard deviations of the candidates' costs, so that it does not depend on their
            scale.
        std: to begin with, in half distances between the bounds.
        shrink: what an iteration multiplies the deviation by; 1 is the published constant one.
        max_rows: see `search`.
    """
    return search(
        objective, start, low=low, high=high, generator=generator, is_over=is_over,
        refit=partial(fit_weighted, temperature=temperature, shrink=shrink),
        num_iterations=num_iterations, num_samples=num_samples, std=std, max_rows=max_rows,
    )  # fmt: skip


def fit_weighted(
    around: Gaussian,
    point: Float[Tensor, "B N *P"],
    cost: Float[Tensor, "B N"],
    *,
    temperature: float,
    shrink: float,
) -> Gaussian:
    """Returns the mean under `weights`, and a deviation multiplied by `shrink`."""
    weight = weights(cost, temperature=temperature)
    return Gaussian(torch.einsum("bn,bn...->b...", weight, point), around.std * shrink)


def weights(cost: Float[Tensor, "B N"], *, temperature: float) -> Float[Tensor, "B N"]:
    """Returns `softmax(-cost / (temperature std(cost)))` over each scene's finite costs, 0 for others."""
    is_finite = cost.isfinite()
    count = is_finite.sum(dim=1, keepdim=True).clamp_min(1)
    known = torch.where(is_finite, cost, 0.0)
    mean = known.sum(dim=1, keepdim=True) / count
    var = torch.where(is_finite, (cost - mean).square(), 0.0).sum(dim=1, keepdim=True) / count
    scaled = torch.where(is_finite, (mean - cost) / (temperature * var.sqrt()).clamp_min(1e-12), -torch.inf)
    return scaled.softmax(dim=1).nan_to_num(nan=0.0)
