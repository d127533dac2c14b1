"""Planning by gradient: Adam from several starts at once."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from planners.online import OnlinePlanner
from planners.optimizer import IsOver, Minimum, cheapest, improved, never, nothing_yet
from worldmodel.protocols import Cost, Objective, WorldModel


def adam(
    objective: Objective,
    start: Float[Tensor, "B N *P"],
    *,
    low: Float[Tensor, "*#P"],
    high: Float[Tensor, "*#P"],
    generator: Generator | None = None,
    is_over: IsOver = never,
    num_iterations: int = 10,
    learning_rate: float = 0.3,
    betas: tuple[float, float] = (0.8, 0.95),
    max_norm: float = 1.0,
) -> Minimum:
    """Returns the cheapest point met by projected Adam from each of `N` starts (Kingma & Ba 2015).

    Starts do not influence one another: gradients are clipped for each start alone, and those that are not
    finite count as zero.

    Arguments not named here are those of `Optimizer`.

    Args:
        num_iterations: gradient steps; the objective is evaluated once more.
        learning_rate: in the units of `start`.
        betas: of the running means of gradient and squared gradient.
        max_norm: gradients longer than this are shortened.
    """
    point = start.detach().clamp(low, high)
    first, second = torch.zeros_like(point), torch.zeros_like(point)
    best = nothing_yet(point.flatten(0, 1))  # of every start
    for iteration in range(num_iterations + 1):
        if iteration and is_over():
            break
        is_last = iteration == num_iterations
        with torch.set_grad_enabled(not is_last):
            at = point.detach().requires_grad_(not is_last)
            cost = objective(at)
            gradient = None if is_last else torch.autograd.grad(cost.sum(), at)[0]
        best = improved(best, point.flatten(0, 1), cost.detach().flatten())
        if gradient is not None:
            gradient = _shorten(gradient, max_norm)
            first = betas[0] * first + (1 - betas[0]) * gradient
            second = betas[1] * second + (1 - betas[1]) * gradient.square()
            mean, var = first / (1 - betas[0] ** (iteration + 1)), second / (1 - betas[1] ** (iteration + 1))
            point = (point - learning_rate * mean / (var.sqrt() + 1e-8)).clamp(low, high)
    return cheapest(best.argument.view_as(point), best.cost.view(point.shape[:2]))


def GradientPlanner(  # noqa: N802 - configurations, and the results stored under their hash, call it so
    model: WorldModel, cost: Cost, *, num_iterations: int = 6, learning_rate: float = 0.1, **options: Any
) -> OnlinePlanner:
    """Returns an `OnlinePlanner` that follows the gradient by `adam`.

    Args:
        model: differentiable in the actions.
        cost: what to minimise.
        num_iterations: Adam steps per decision.
        learning_rate: Adam's; 1 is full braking.
        options: of `OnlinePlanner`.

    Example:
        >>> planner = GradientPlanner(model, cost, num_iterations=20)  # doctest: +SKIP
        >>> planner.plan(obs).action[:, 0]  # doctest: +SKIP
    """
    optimizer = partial(adam, num_iterations=num_iterations, learning_rate=learning_rate)
    return OnlinePlanner(model, cost, optimizer, **options)


def _shorten(gradient: Tensor, max_norm: float) -> Tensor:
    """Each start's gradient, at most `max_norm` long; zero where it is not finite."""
    flat = gradient.flatten(2)
    norm = torch.linalg.vector_norm(flat, dim=-1, keepdim=True)
    short = torch.where(norm.isfinite(), flat * (max_norm / norm.clamp_min(max_norm)), 0.0)
    return short.view_as(gradient)
