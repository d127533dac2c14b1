"""What the sampling optimisers share: draw around a Gaussian, evaluate, move the Gaussian, repeat.

They differ by how the Gaussian follows the costs (`Refit`). No gradient is taken, so the objective may be
anything.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from planners.optimizer import IsOver, Minimum, cheapest, expand, improved, never
from worldmodel.protocols import Objective


@dataclass(frozen=True)
class Gaussian:
    """Where candidates are drawn, each number by itself.

    Attributes:
        mean: of the candidates.
        std: their standard deviation, before the bounds cut them.
    """

    mean: Float[Tensor, "B *P"]
    std: Float[Tensor, "B *P"]


Refit = Callable[[Gaussian, Float[Tensor, "B N *P"], Float[Tensor, "B N"]], Gaussian]
"""Gaussian, candidates, their costs (NaN is infinite) -> the Gaussian of the next iteration."""


def search(
    objective: Objective,
    start: Float[Tensor, "B N *P"],
    *,
    low: Float[Tensor, "*#P"],
    high: Float[Tensor, "*#P"],
    generator: Generator | None = None,
    is_over: IsOver = never,
    refit: Refit,
    num_iterations: int,
    num_samples: int,
    std: float,
    colour: float = 0.0,
    decay: float = 1.0,
    num_kept: int = 0,
    max_rows: int = 512,
) -> Minimum:
    """Returns the cheapest point met while the Gaussian moves.

    It begins around the cheapest start. Every iteration evaluates its mean, the best candidates of the
    iteration before and fresh samples, the same noise in every scene.

    Arguments not named here are those of `Optimizer`.

    Args:
        refit: moves the Gaussian; where all costs are infinite it stays.
        num_iterations: how often.
        num_samples: drawn in the first iteration.
        std: to begin with, as a share of half the distance between the bounds.
        colour: exponent of the noise's power spectrum over time: 0 is white, 2 is red.
        decay: every iteration draws so many times fewer samples.
        num_kept: candidates that are evaluated again in the next iteration, and returned after the last.
        max_rows: candidates times scenes that are evaluated at a time, which bounds the memory.
    """
    start = start.detach().clamp(low, high)
    cost = evaluate(objective, start, max_rows=max_rows)
    found, kept = cheapest(start, cost), elites(start, cost, num_kept)
    around = Gaussian(found.argument, (std * (high - low) / 2).expand_as(found.argument))
    for iteration in range(num_iterations):
        if iteration and is_over():
            break
        count = max(2, round(num_samples / decay**iteration))
        noise = coloured_noise((count, *start.shape[2:]), colour, generator=generator, like=start)
        drawn = (around.mean[:, None] + around.std[:, None] * noise).clamp(low, high)
        point = torch.cat([around.mean[:, None], kept, drawn], dim=1)
        cost = evaluate(objective, point, max_rows=max_rows)
        best = cheapest(point, cost)
        found = improved(found, best.argument, best.cost)
        kept = elites(point, cost, num_kept)
        after, is_known = refit(around, point, cost), expand(cost.isfinite().any(dim=1), around.mean)
        around = Gaussian(
            torch.where(is_known, after.mean, around.mean), torch.where(is_known, after.std, around.std)
        )
    return replace(found, others=kept if num_kept else None)


def evaluate(objective: Objective, point: Float[Tensor, "B N *P"], *, max_rows: int) -> Float[Tensor, "B N"]:
    """Returns the costs of candidates, without gradient, at most `max_rows` at a time; NaN is infinite."""
    size = max(1, max_rows // len(point))
    with torch.no_grad():
        cost = torch.cat([objective(part) for part in point.split(size, dim=1)], dim=1)
    return torch.where(cost.isnan(), torch.inf, cost)


def elites(point: Float[Tensor, "B N *P"], cost: Float[Tensor, "B N"], count: int) -> Float[Tensor, "B E *P"]:
    """Returns the `count` cheapest candidates of each scene, the best first."""
    order = cost.argsort(dim=1, stable=True)[:, :count]
    return point[torch.arange(len(point), device=point.device)[:, None], order]


def coloured_noise(
    shape: tuple[int, ...], colour: float, *, generator: Generator | None, like: Tensor
) -> Float[Tensor, "*S"]:
    """Returns unit Gaussian noise whose power falls with frequency to the power of `colour` (Timmer & König).

    White noise is filtered over the second dimension, time; its mean passes like the lowest frequency.

    Args:
        shape: samples, time, and whatever is independent.
        colour: 0 is white noise, at least 0.
        generator: of the noise.
        like: dtype and device.
    """
    white = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
    if not colour or shape[1] < 2:
        return white
    frequency = torch.fft.fftfreq(shape[1], device=like.device, dtype=like.dtype).abs()
    gain = frequency.clamp_min(1 / shape[1]) ** (-colour / 2)
    gain = gain / gain.square().mean().sqrt()
    half = gain[: shape[1] // 2 + 1].reshape(-1, *[1] * (len(shape) - 2))
    noise: Tensor = torch.fft.irfft(torch.fft.rfft(white, dim=1) * half, n=shape[1], dim=1)
    return noise
