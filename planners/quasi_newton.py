"""Limited-memory BFGS for many scenes and starts at once, within bounds.

Each row (a start of a scene) searches along its own line: an iteration evaluates one trial of every row;
rows whose trial is good enough move there and take a new direction, the others shorten their step. So all
rows share each evaluation, and none waits for another.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from planners.optimizer import IsOver, Minimum, cheapest, never
from worldmodel.protocols import Objective

ARMIJO = 1e-4
"""Share of the decrease that the slope promises with which a trial is good enough."""
SHORTEST = 1e-3
"""Shorter steps than this mean that the curvature misleads: it is forgotten."""


def lbfgs(
    objective: Objective,
    start: Float[Tensor, "B N *P"],
    *,
    low: Float[Tensor, "*#P"],
    high: Float[Tensor, "*#P"],
    generator: Generator | None = None,
    is_over: IsOver = never,
    num_iterations: int = 10,
    num_pairs: int = 5,
    first_step: float = 0.3,
) -> Minimum:
    """Returns the cheapest point met by projected L-BFGS from each start (Nocedal 1980, Bertsekas 1982).

    Arguments not named here are those of `Optimizer`.

    Args:
        num_iterations: trials; the objective is evaluated once more.
        num_pairs: steps whose curvature is remembered.
        first_step: length of a step without curvature, in the units of `start`.
    """
    shape, flat = start.shape, start.detach().clamp(low, high).flatten(2).flatten(0, 1)
    low, high = (bound.expand(shape[2:]).flatten() for bound in (low, high))
    cost, slope = _look(objective, flat, shape)
    at = _Rows(
        flat, cost, slope, torch.zeros_like(flat), torch.ones_like(cost),
        flat.new_zeros(num_pairs, *flat.shape), flat.new_zeros(num_pairs, *flat.shape),
        flat.new_zeros(num_pairs, len(flat)),
    )  # fmt: skip
    at = replace(at, direction=_direction(at, low, high, first_step))
    for _ in range(num_iterations):
        if is_over():
            break
        trial = (at.point + at.step[:, None] * at.direction).clamp(low, high)
        at = _after(at, trial, *_look(objective, trial, shape))
        at = replace(at, direction=_direction(at, low, high, first_step))
    return cheapest(at.point.view(shape), at.cost.view(shape[:2]))


@dataclass(frozen=True)
class _Rows:
    """Where each row is, where it is heading, and the last steps with their changes of slope, newest first.

    A `weight` of zero marks a pair that does not count.
    """

    point: Float[Tensor, "R P"]
    cost: Float[Tensor, " R"]
    slope: Float[Tensor, "R P"]
    direction: Float[Tensor, "R P"]
    step: Float[Tensor, " R"]
    moved: Float[Tensor, "M R P"]
    bent: Float[Tensor, "M R P"]
    weight: Float[Tensor, "M R"]


def _look(
    objective: Objective, point: Float[Tensor, "R P"], shape: tuple[int, ...]
) -> tuple[Float[Tensor, " R"], Float[Tensor, "R P"]]:
    """Cost and gradient; a NaN cost is infinite, gradients that are not finite are zero."""
    with torch.enable_grad():
        at = point.detach().view(shape).requires_grad_()
        cost = objective(at)
        (slope,) = torch.autograd.grad(cost.sum(), at)
    slope = slope.view_as(point)
    cost = torch.where(cost.isnan(), torch.inf, cost).detach().flatten()
    return cost, torch.where(slope.isfinite().all(dim=1, keepdim=True), slope, 0.0)


def _after(
    at: _Rows, trial: Float[Tensor, "R P"], cost: Float[Tensor, " R"], slope: Float[Tensor, "R P"]
) -> _Rows:
    """Moves the rows whose trial is good enough; shortens the step of the others."""
    moved, bent = trial - at.point, slope - at.slope
    promised = _dot(at.slope, moved)
    is_good = cost <= at.cost + ARMIJO * promised
    curvature = _dot(moved, bent)
    is_convex = curvature > 1e-8 * moved.norm(dim=1) * bent.norm(dim=1)
    # Minimum of the parabola through both costs and the slope.
    shorter = (-promised / (2 * (cost - at.cost - promised))).nan_to_num(nan=0.1).clamp(0.1, 0.5) * at.step
    is_stuck = ~is_good & (shorter < SHORTEST)
    keep = is_good & is_convex
    moved, bent = _push(at.moved, moved, keep[:, None]), _push(at.bent, bent, keep[:, None])
    weight = _push(at.weight, torch.where(is_convex, 1 / curvature, 0.0), keep)
    return _Rows(
        torch.where(is_good[:, None], trial, at.point),
        torch.where(is_good, cost, at.cost),
        torch.where(is_good[:, None], slope, at.slope),
        at.direction,
        torch.where(is_good | is_stuck, 1.0, shorter),
        moved,
        bent,
        torch.where(is_stuck, 0.0, weight),
    )


def _direction(
    at: _Rows, low: Float[Tensor, " P"], high: Float[Tensor, " P"], first_step: float
) -> Float[Tensor, "R P"]:
    """Downhill by the two-loop recursion, among the numbers that no bound holds back."""
    is_held = ((at.point <= low) & (at.slope > 0)) | ((at.point >= high) & (at.slope < 0))
    slope = at.slope.masked_fill(is_held, 0.0)
    found, shares = slope, []
    for moved, bent, weight in zip(at.moved, at.bent, at.weight, strict=True):
        share = weight * _dot(moved, found)
        found = found - share[:, None] * bent
        shares.append(share)
    # The newest pair gives the scale; without one, a step of the given length.
    size = 1 / (at.weight[0] * _dot(at.bent[0], at.bent[0]))
    found = (
        found * torch.where(at.weight[0] > 0, size, first_step / slope.norm(dim=1).clamp_min(1e-12))[:, None]
    )
    for moved, bent, weight, share in list(zip(at.moved, at.bent, at.weight, shares, strict=True))[::-1]:
        found = found + (share - weight * _dot(bent, found))[:, None] * moved
    return -found.masked_fill(is_held, 0.0)


def _push(
    pairs: Float[Tensor, "M R *P"], newest: Float[Tensor, "R *P"], mask: Bool[Tensor, "R *#P"]
) -> Float[Tensor, "M R *P"]:
    """Puts the newest first, in the rows of the mask, and drops the oldest."""
    return torch.where(mask, torch.cat([newest[None], pairs[:-1]]), pairs)


def _dot(one: Float[Tensor, "R P"], other: Float[Tensor, "R P"]) -> Float[Tensor, " R"]:
    return (one * other).sum(dim=1)
