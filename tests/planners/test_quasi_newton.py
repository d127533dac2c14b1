"""L-BFGS in batches, against functions with a known answer and against scipy."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from planners import lbfgs

LOW, HIGH = torch.tensor(-2.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)


def rosenbrock(point: Tensor) -> Tensor:
    """Its minimum, 0 at (1, 1), lies in a bent valley."""
    x, y = point.unbind(-1)
    return 100 * (y - x.square()).square() + (1 - x).square()


STARTS = torch.tensor([[[-1.2, 1.0], [0.0, 0.0]], [[1.5, -1.5], [-0.5, 1.9]]], dtype=torch.float64)


def value_and_slope(x: np.ndarray) -> tuple[float, np.ndarray]:
    point = torch.from_numpy(x).requires_grad_()
    value = rosenbrock(point)
    value.backward()
    assert point.grad is not None
    return value.item(), point.grad.numpy()


@pytest.mark.slow
def test_it_follows_the_bent_valley_with_twice_the_evaluations_of_scipy() -> None:
    for start in STARTS.flatten(0, 1):
        known = minimize(
            value_and_slope, start.numpy(), jac=True, method="L-BFGS-B", bounds=[(-2.0, 2.0)] * 2
        )
        assert known.fun < 1e-6
        found = lbfgs(rosenbrock, start[None, None], low=LOW, high=HIGH, num_iterations=2 * known.nfev)
        assert found.cost.item() < 1e-6


def test_rows_do_not_influence_one_another() -> None:
    together = lbfgs(rosenbrock, STARTS, low=LOW, high=HIGH, num_iterations=15)
    for row in range(2):
        alone = [
            lbfgs(rosenbrock, STARTS[row, one][None, None], low=LOW, high=HIGH, num_iterations=15).cost.item()
            for one in range(2)
        ]
        assert together.cost[row].item() == min(alone)


def test_a_quadratic_within_bounds_takes_few_evaluations() -> None:
    count = 0
    rng = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(12, 12, generator=rng, dtype=torch.float64))
    hessian = basis @ torch.diag(torch.logspace(0, 2, 12, dtype=torch.float64)) @ basis.T
    target = 3 * torch.rand(12, generator=rng, dtype=torch.float64) - 1.5

    def objective(point: Tensor) -> Tensor:
        nonlocal count
        count += 1
        away = point.flatten(2) - target
        return ((away @ hessian) * away).sum(-1)

    low, high = torch.tensor(-1.0).double(), torch.tensor(1.0).double()
    start = torch.zeros(1, 1, 6, 2, dtype=torch.float64)
    found = lbfgs(objective, start, low=low, high=high, num_iterations=40)
    assert count == 41
    assert found.argument.abs().max() == 1.0  # some bounds hold
    known = minimize(
        lambda x: objective(torch.from_numpy(x).view(1, 1, 6, 2)).item(),
        np.zeros(12), method="L-BFGS-B", bounds=[(-1.0, 1.0)] * 12, options={"ftol": 1e-14},
    )  # fmt: skip
    assert found.cost.item() <= known.fun * (1 + 1e-3)


def test_it_steps_back_from_nan() -> None:
    def objective(point: Tensor) -> Tensor:
        cost = 50 * (point[..., 0] - 0.4).square()
        return torch.where(point[..., 0] > 0.5, math.nan, cost)

    found = lbfgs(
        objective, torch.zeros(1, 1, 1), low=torch.tensor(-1.0), high=torch.tensor(1.0), first_step=0.9
    )
    assert abs(found.argument.item() - 0.4) < 1e-3
