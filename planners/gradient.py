"""Planning by gradient: Adam on the knots of an action sequence, from several starts at once.

`minimise` is the optimiser, a pure function of a callable; `GradientPlanner` applies it to what a world model
and a cost say about an observation.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from planners.objective import make_objective
from worldmodel.protocols import Cost, Objective, WorldModel
from worldmodel.scene import rollout
from worldmodel.types import Obs, Plan


@dataclass(frozen=True)
class Minimum:
    """The best of what an optimiser tried in each scene.

    Attributes:
        argument: what was found.
        cost: its cost; infinite where every candidate cost NaN.
    """

    argument: Float[Tensor, "B *P"]
    cost: Float[Tensor, " B"]


def minimise(
    objective: Objective,
    start: Float[Tensor, "B N *P"],
    *,
    low: Float[Tensor, "*#P"],
    high: Float[Tensor, "*#P"],
    num_iterations: int = 10,
    learning_rate: float = 0.3,
    betas: tuple[float, float] = (0.8, 0.95),
    max_norm: float = 1.0,
) -> Minimum:
    """Returns the cheapest point met by projected Adam from each of `N` starts.

    Scenes and starts do not influence one another: gradients are clipped for each start alone, and those that
    are not finite count as zero. The result is never worse than the best start.

    Args:
        objective: `(B, N, *P)` -> cost `(B, N)`; differentiable.
        start: where to start.
        low: bounds that broadcast against `start`; starts outside are clamped.
        high: see `low`.
        num_iterations: gradient steps; the objective is evaluated once more.
        learning_rate: Adam's, in the units of `start`.
        betas: Adam's.
        max_norm: gradients longer than this are shortened.
    """
    point = start.detach().clamp(low, high)
    first, second = torch.zeros_like(point), torch.zeros_like(point)
    best, lowest = point.clone(), torch.full_like(point.flatten(2)[..., 0], torch.inf)
    for iteration in range(num_iterations + 1):
        is_last = iteration == num_iterations
        with torch.set_grad_enabled(not is_last):
            point = point.requires_grad_(not is_last)
            cost = objective(point)
            gradient = None if is_last else torch.autograd.grad(cost.sum(), point)[0]
        point = point.detach()
        is_better = cost.detach() < lowest  # false for NaN, so NaN ranks last
        lowest = torch.where(is_better, cost.detach(), lowest)
        best = torch.where(_expand(is_better, best), point, best)
        if gradient is not None:
            gradient = _shorten(gradient, max_norm)
            first = betas[0] * first + (1 - betas[0]) * gradient
            second = betas[1] * second + (1 - betas[1]) * gradient.square()
            mean, var = first / (1 - betas[0] ** (iteration + 1)), second / (1 - betas[1] ** (iteration + 1))
            point = (point - learning_rate * mean / (var.sqrt() + 1e-8)).clamp(low, high)
    cost, winner = lowest.min(dim=1)
    return Minimum(best[torch.arange(len(best), device=best.device), winner], cost)


@dataclass(frozen=True)
class ActionBounds:
    """What the planner may do, and in what steps it thinks.

    Attributes:
        accel: lowest and highest [m/s^2].
        curvature: largest, either way [1/m].
        lateral: largest sideways acceleration, either way [m/s^2]; limits the curvature at speed.
    """

    accel: tuple[float, float] = (-6.0, 3.0)
    curvature: float = 0.1
    lateral: float = 3.0

    def scale(self, speed: Float[Tensor, " B"]) -> Float[Tensor, "B 2"]:
        """Returns what 1 stands for in normalised actions: full braking, the tightest turn at `speed`."""
        tightest = (self.lateral / speed.square().clamp_min(1e-3)).clamp_max(self.curvature)
        return torch.stack([torch.full_like(tightest, -self.accel[0]), tightest], dim=-1)

    @property
    def low(self) -> tuple[float, float]:
        """Of normalised actions."""
        return -1.0, -1.0

    @property
    def high(self) -> tuple[float, float]:
        """Of normalised actions."""
        return -self.accel[1] / self.accel[0], 1.0


CONSTANT_STARTS = ((0.0, 0.0), (-0.5, 0.0), (0.3, 0.0), (-1.0, 0.0), (0.0, 0.2), (0.0, -0.2))
"""Normalised actions to start from: keep speed, brake, accelerate, brake fully, turn left, turn right."""


class GradientPlanner:
    """A `Planner` that improves several action sequences by gradient and returns the best it met.

    Sequences are piecewise linear between knots. It has no memory: `RecedingHorizon` gives it one.

    Args:
        model: world model, differentiable in the actions.
        cost: what to minimise.
        horizon: planned steps.
        num_knots: of a sequence; as many as `horizon` leave every action free.
        num_starts: the warm start, when there is one, and the first of `CONSTANT_STARTS`.
        num_iterations: Adam steps per decision.
        learning_rate: Adam's; 1 is full braking.
        bounds: of the actions.
        discount: of a step.

    Example:
        >>> planner = GradientPlanner(model, cost, num_iterations=20)  # doctest: +SKIP
        >>> planner.plan(obs).action[:, 0]  # doctest: +SKIP
    """

    def __init__(
        self,
        model: WorldModel,
        cost: Cost,
        *,
        horizon: int = 30,
        num_knots: int = 6,
        num_starts: int = 2,
        num_iterations: int = 6,
        learning_rate: float = 0.1,
        bounds: ActionBounds | None = None,
        discount: float = 0.99,
    ) -> None:
        if not 1 <= num_knots <= horizon:
            raise ValueError(f"num_knots={num_knots} must be between 1 and the horizon of {horizon} steps")
        if not 1 <= num_starts <= len(CONSTANT_STARTS):
            raise ValueError(f"num_starts={num_starts} must be between 1 and {len(CONSTANT_STARTS)}")
        self.model, self.cost, self.horizon = model, cost, horizon
        self.num_starts, self.num_iterations, self.learning_rate = num_starts, num_iterations, learning_rate
        self.bounds, self.discount = bounds or ActionBounds(), discount
        self.spread = interpolation(num_knots, horizon)
        self.gather = torch.linalg.pinv(self.spread)

    def reset(self, seed: int | None = None) -> None:
        """Does nothing: there is neither memory nor chance."""

    def plan(self, obs: Obs, *, warm_start: Float[Tensor, "B T 2"] | None = None) -> Plan:
        """Returns the best action sequence met in each scene.

        Args:
            obs: the scenes.
            warm_start: a further sequence to start from; takes one of the `num_starts` places.
        """
        objective = make_objective(self.model, self.cost, obs, discount=self.discount)
        return self.improve(
            objective, obs.state[:, -1, 3], starts=None if warm_start is None else warm_start[:, None]
        )

    def improve(
        self,
        objective: Objective,
        speed: Float[Tensor, " B"],
        *,
        starts: Float[Tensor, "B N T 2"] | None = None,
    ) -> Plan:
        """Returns the best action sequence met under an objective.

        Args:
            objective: of sequences over the horizon.
            speed: to start with [m/s].
            starts: sequences to start from; each takes one of the `num_starts` places.
        """
        scale = self.bounds.scale(speed)[:, None, None]  # (B, 1, 1, 2)
        spread, dt = self.spread.to(scale), self.model.dt

        def actions(knots: Float[Tensor, "B N K 2"]) -> Float[Tensor, "B N T 2"]:
            return without_reversing(spread @ knots * scale, speed[:, None], dt)

        found = minimise(
            lambda knots: objective(actions(knots)),
            self._starts(scale, starts),
            low=scale.new_tensor(self.bounds.low),
            high=scale.new_tensor(self.bounds.high),
            num_iterations=self.num_iterations,
            learning_rate=self.learning_rate,
        )
        action = actions(found.argument[:, None])[:, 0]
        start = torch.cat([torch.zeros_like(speed)[:, None].expand(-1, 3), speed[:, None]], dim=-1)
        return Plan(action=action, ego=rollout(start, action, dt), cost=found.cost)

    def _starts(
        self, scale: Float[Tensor, "B 1 1 2"], given: Float[Tensor, "B N T 2"] | None
    ) -> Float[Tensor, "B M K 2"]:
        num_given = 0 if given is None else given.shape[1]
        constant = scale.new_tensor(CONSTANT_STARTS)[: max(self.num_starts - num_given, 0), None]  # (N, 1, 2)
        starts = constant.expand(len(scale), -1, self.gather.shape[0], -1)
        if given is None:
            return starts
        knots = self.gather.to(scale) @ (given.to(scale) / scale)
        return torch.cat([knots, starts], dim=1)


def interpolation(num_knots: int, horizon: int) -> Float[Tensor, "horizon num_knots"]:
    """Returns the matrix from knots, spread evenly over the horizon, to a piecewise linear sequence."""
    if num_knots == 1:
        return torch.ones(horizon, 1)
    position = torch.linspace(0.0, num_knots - 1.0, horizon)[:, None]
    return (1 - (position - torch.arange(num_knots)).abs()).clamp_min(0.0)


def without_reversing(
    action: Float[Tensor, "*B T 2"], speed: Float[Tensor, "*#B"], dt: float
) -> Float[Tensor, "*B T 2"]:
    """Returns the action sequence with every braking ended at standstill.

    The speeds are reflected at zero: `v[t+1] = max(0, v[t] + accel[t] dt)` for all steps at once, by
    `v = s + relu(max_{k <= t} -s[k])` with the unhindered speeds `s`. A car that rolls backwards already is
    only kept from going faster backwards.

    Args:
        action: acceleration [m/s^2] and curvature [1/m].
        speed: before the first action [m/s].
        dt: [s]
    """
    before = speed.unsqueeze(-1)
    free = before + action[..., 0].cumsum(-1) * dt
    held = free + (before.clamp(max=0.0) - free).cummax(-1).values.relu()
    speeds = torch.cat([before.expand_as(free[..., :1]), held], dim=-1)
    return torch.stack([speeds.diff(dim=-1) / dt, action[..., 1]], dim=-1)


def _shorten(gradient: Tensor, max_norm: float) -> Tensor:
    """Each start's gradient, at most `max_norm` long; zero where it is not finite."""
    flat = gradient.flatten(2)
    norm = torch.linalg.vector_norm(flat, dim=-1, keepdim=True)
    short = torch.where(norm.isfinite(), flat * (max_norm / norm.clamp_min(max_norm)), 0.0)
    return short.view_as(gradient)


def _expand(mask: Tensor, like: Tensor) -> Tensor:
    return mask.reshape(mask.shape + (1,) * (like.ndim - mask.ndim))
