"""Random shooting: try many, keep the best. The floor for every optimiser that samples."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from planners.optimizer import IsOver, Minimum, cheapest, improved, never, nothing_yet
from planners.sampling import evaluate
from worldmodel.protocols import Objective


def random_shooting(
    objective: Objective,
    start: Float[Tensor, "B N *P"],
    *,
    low: Float[Tensor, "*#P"],
    high: Float[Tensor, "*#P"],
    generator: Generator | None = None,
    is_over: IsOver = never,
    num_iterations: int = 5,
    num_samples: int = 64,
    max_rows: int = 512,
) -> Minimum:
    """Returns the cheapest of the starts and of samples that are uniform between the bounds.

    Arguments not named here are those of `Optimizer`.

    Args:
        num_iterations: parts in which samples are drawn.
        num_samples: of each part.
        max_rows: see `search`.
    """
    start = start.detach().clamp(low, high)
    found = nothing_yet(start[:, 0])
    for iteration in range(num_iterations):
        if iteration and is_over():
            break
        shape = (1, num_samples, *start.shape[2:])
        share = torch.rand(shape, generator=generator, dtype=start.dtype, device=start.device)
        drawn = (low + share * (high - low)).expand(len(start), *shape[1:])
        point = torch.cat([start, drawn], dim=1) if iteration == 0 else drawn
        best = cheapest(point, evaluate(objective, point, max_rows=max_rows))
        found = improved(found, best.argument, best.cost)
    return found
