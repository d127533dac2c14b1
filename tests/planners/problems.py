"""Problems whose best answer is known; points are sequences in [-1, 1], `(B, N, T, A)`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solve_discrete_are
from torch import Tensor

from planners import Optimizer

LOW, HIGH = torch.tensor(-1.0), torch.tensor(1.0)


@dataclass(frozen=True)
class Problem:
    """Minimise `objective` from `start`; `optimum` is the least cost of each scene, and `best` attains it."""

    objective: Callable[[Tensor], Tensor]
    start: Tensor
    optimum: Tensor
    best: Tensor | None = None

    def gap(self, cost: Tensor) -> float:
        """How much of what the start could have gained is still missing, in the worst scene."""
        worst = self.objective(self.start).min(dim=1).values
        return float(((cost - self.optimum) / (worst - self.optimum)).max())

    def __getitem__(self, row: int) -> "Problem":
        def alone(point: Tensor) -> Tensor:
            every = point.expand(len(self.start), *point.shape[1:])
            return self.objective(every)[row : row + 1]

        return Problem(alone, self.start[row : row + 1], self.optimum[row : row + 1])


def regulator(a: np.ndarray, b: np.ndarray, effort: float, states: np.ndarray, *, horizon: int) -> Problem:
    """The linear-quadratic regulator, `x' = a x + b u`, cost `x' x + effort u' u`.

    With the solution `p` of the discrete algebraic Riccati equation as terminal cost, the best cost is `x0' p
    x0`, whatever the horizon.
    """
    size, inputs = b.shape
    p = solve_discrete_are(a, b, np.eye(size), effort * np.eye(inputs))
    matrix, control, terminal = (torch.tensor(part, dtype=torch.float32) for part in (a, b, p))
    first = torch.tensor(states, dtype=torch.float32)

    def objective(point: Tensor) -> Tensor:
        state = first[:, None].expand(-1, point.shape[1], -1)
        cost = torch.zeros(point.shape[:2])
        for t in range(horizon):
            u = point[:, :, t]
            cost = cost + state.square().sum(-1) + effort * u.square().sum(-1)
            state = state @ matrix.T + u @ control.T
        return cost + ((state @ terminal) * state).sum(-1)

    gain = torch.tensor(np.linalg.solve(effort * np.eye(inputs) + b.T @ p @ b, b.T @ p @ a)).float()
    best, state = [], first
    for _ in range(horizon):
        best.append(-state @ gain.T)
        state = state @ matrix.T + best[-1] @ control.T
    optimum = ((first @ terminal) * first).sum(-1)
    return Problem(objective, torch.zeros(len(first), 1, horizon, inputs), optimum, torch.stack(best, dim=1))


def double_integrator(*, horizon: int = 12) -> Problem:
    """Push a mass to the origin and stop it there; three scenes, no push reaches the bounds."""
    a, b = np.array([[1.0, 0.3], [0.0, 1.0]]), np.array([[0.045], [0.3]])
    return regulator(a, b, 1.0, np.array([[1.0, 0.0], [-0.5, 0.8], [0.3, -0.6]]), horizon=horizon)


def coupled_regulator() -> Problem:
    """Four states and two inputs that are not independent of each other; unstable without control."""
    rng = np.random.default_rng(0)
    a = np.eye(4) + 0.2 * rng.normal(size=(4, 4))
    b = 0.5 * rng.normal(size=(4, 2))
    return regulator(a, b, 2.0, 0.2 * rng.normal(size=(2, 4)), horizon=3)


def course(point: Tensor) -> Tensor:
    """Where a point mass gets with steps of at most 1 a side, `(B, N, T, 2)`."""
    return point.cumsum(dim=2)


DISCS = ((1.5, 0.2, 0.8), (3.5, -0.3, 0.8))
"""Obstacles `(x, y, radius)` between the start and the goal."""
GOAL = (5.0, 0.0)


def depth(point: Tensor) -> Tensor:
    """How deep each step is in the discs, `(B, N)`."""
    path = course(point)
    inside = [
        (radius - (path - path.new_tensor([x, y])).norm(dim=-1)).clamp_min(0.0) for x, y, radius in DISCS
    ]
    return torch.stack(inside).sum(0).amax(-1)


def obstacle_course() -> Problem:
    """Reach the goal in ten steps around two discs; the straight way leads through both.

    The start goes straight at constant speed. The optimum is a lower bound: the effort of going straight.
    """

    def objective(point: Tensor) -> Tensor:
        path = course(point)
        cost = 2.0 * (path[:, :, -1] - path.new_tensor(GOAL)).square().sum(-1) + 0.5 * point.square().sum(
            (2, 3)
        )
        for x, y, radius in DISCS:
            inside = (radius - (path - path.new_tensor([x, y])).norm(dim=-1)).clamp_min(0.0)
            cost = cost + 20.0 * inside.square().sum(-1) + 5.0 * inside.sum(-1)
        return cost

    straight = torch.tensor(GOAL).div(10).expand(1, 1, 10, 2).clone()
    return Problem(objective, straight, torch.tensor([0.5 * 10 * 0.25]))


def two_valleys() -> Problem:
    """A deep valley at 0.6 and a shallow one at -0.6; the most trusted start leans to the shallow one."""

    def objective(point: Tensor) -> Tensor:
        x = point.flatten(2)
        mean = x.mean(-1)
        well = ((mean - 0.6) * (mean + 0.6)).square() * 8 + 0.3 * (0.6 - mean).abs()
        return well + (x - mean[..., None]).square().mean(-1)

    start = torch.tensor([-0.1, 0.2])[None, :, None, None].expand(1, 2, 5, 1).clone()
    return Problem(objective, start, torch.zeros(1))


def evaluations_until(optimizer: Optimizer, problem: Problem, *, epsilon: float, limit: int) -> float:
    """How many evaluations a scene takes until the gap is `epsilon`, asked again from its own answer.

    Infinite if it takes more than `limit`.
    """
    count = 0

    def counted(point: Tensor) -> Tensor:
        nonlocal count
        count += point.shape[1]
        return problem.objective(point)

    generator, start = torch.Generator().manual_seed(0), problem.start
    while count <= limit:
        found = optimizer(counted, start, low=LOW, high=HIGH, generator=generator)
        if problem.gap(found.cost) <= epsilon:
            return count if count <= limit else torch.inf
        start = found.argument.unsqueeze(1)
    return torch.inf
