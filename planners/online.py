"""Planning online: an optimiser, applied to what a world model and a cost say about an observation."""

import time
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from planners.objective import ObjectiveFn, make_objective
from planners.optimizer import IsOver, Optimizer, never
from planners.sequence import ActionBounds, ActionSequences, interpolation
from worldmodel.protocols import Cost, Objective, WorldModel
from worldmodel.scene import rollout
from worldmodel.types import Obs, Plan

CONSTANT_STARTS = ((0.0, 0.0), (-0.5, 0.0), (0.3, 0.0), (-1.0, 0.0), (0.0, 0.2), (0.0, -0.2))
"""Normalised actions to start from: keep speed, brake, accelerate, brake fully, turn left, turn right."""


class OnlinePlanner:
    """A `Planner` that optimises an action sequence, piecewise linear between knots, anew for each decision.

    It has no memory: `RecedingHorizon` gives it one. The random numbers are the same for every decision, so
    that decisions differ by what is seen only.

    Args:
        model: world model; differentiable in the actions if the optimiser takes gradients.
        cost: what to minimise.
        optimizer: how.
        horizon: planned steps.
        num_knots: of a sequence; as many as `horizon` leave every action free.
        num_starts: the warm start, when there is one, and the first of `CONSTANT_STARTS`.
        bounds: of the actions.
        discount: of a step.
        objective_fn: makes the objective of model, cost and observation.
        seed: of the random numbers, until `reset` gives another.
        clock: tells the time [s].

    Example:
        >>> planner = OnlinePlanner(model, cost, partial(cem, num_samples=64))  # doctest: +SKIP
        >>> planner.plan(obs, budget_ms=50.0).action[:, 0]  # doctest: +SKIP
    """

    def __init__(
        self,
        model: WorldModel,
        cost: Cost,
        optimizer: Optimizer,
        *,
        horizon: int = 30,
        num_knots: int = 6,
        num_starts: int = 2,
        bounds: ActionBounds | None = None,
        discount: float = 0.99,
        objective_fn: ObjectiveFn = make_objective,
        seed: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not 1 <= num_knots <= horizon:
            raise ValueError(f"num_knots={num_knots} must be between 1 and the horizon of {horizon} steps")
        if not 1 <= num_starts <= len(CONSTANT_STARTS):
            raise ValueError(f"num_starts={num_starts} must be between 1 and {len(CONSTANT_STARTS)}")
        self.model, self.cost, self.optimizer = model, cost, optimizer
        self.horizon, self.num_starts = horizon, num_starts
        self.bounds, self.discount = bounds or ActionBounds(), discount
        self.objective_fn, self.seed, self.clock = objective_fn, seed, clock
        self.spread = interpolation(num_knots, horizon)
        self.gather = torch.linalg.pinv(self.spread)

    def reset(self, seed: int | None = None) -> None:
        """Takes another seed."""
        if seed is not None:
            self.seed = seed

    def plan(
        self,
        obs: Obs,
        *,
        warm_start: Float[Tensor, "B N T 2"] | None = None,
        budget_ms: float | None = None,
    ) -> Plan:
        """Returns the best action sequence met in each scene.

        Args:
            obs: the scenes.
            warm_start: sequences to start from; each takes one of the `num_starts` places.
            budget_ms: no iteration begins later than this after the call; the first always runs.
        """
        is_over = deadline(budget_ms, self.clock)
        objective = self.objective_fn(self.model, self.cost, obs, discount=self.discount)
        return self.improve(objective, obs.state[:, -1, 3], starts=warm_start, is_over=is_over)

    def improve(
        self,
        objective: Objective,
        speed: Float[Tensor, " B"],
        *,
        starts: Float[Tensor, "B N T 2"] | None = None,
        is_over: IsOver = never,
    ) -> Plan:
        """Returns the best action sequence met under an objective.

        Args:
            objective: of sequences over the horizon.
            speed: to start with [m/s].
            starts: sequences to start from; each takes one of the `num_starts` places.
            is_over: ends the search early.
        """
        scale = self.bounds.scale(speed)[:, None, None]  # (B, 1, 1, 2)
        dt = self.model.dt
        sequences = ActionSequences(self.spread.to(scale), self.gather.to(scale), scale, speed, dt)
        found = self.optimizer(
            lambda knots: objective(sequences.actions(knots)),
            self._starts(sequences, starts),
            low=scale.new_tensor(self.bounds.low),
            high=scale.new_tensor(self.bounds.high),
            generator=Generator(scale.device).manual_seed(self.seed),
            is_over=is_over,
        )
        action = sequences.actions(found.argument[:, None])[:, 0]
        start = torch.cat([torch.zeros_like(speed)[:, None].expand(-1, 3), speed[:, None]], dim=-1)
        others = None if found.others is None else sequences.actions(found.others)
        return Plan(action=action, ego=rollout(start, action, dt), cost=found.cost, others=others)

    def _starts(
        self, sequences: ActionSequences, given: Float[Tensor, "B N T 2"] | None
    ) -> Float[Tensor, "B M K 2"]:
        num_given = 0 if given is None else given.shape[1]
        scale, num_knots = sequences.scale, len(sequences.gather)
        constant = scale.new_tensor(CONSTANT_STARTS)[: max(self.num_starts - num_given, 0), None]  # (N, 1, 2)
        starts = constant.expand(len(scale), -1, num_knots, -1)
        return starts if given is None else torch.cat([sequences.knots(given), starts], dim=1)


def deadline(budget_ms: float | None, clock: Callable[[], float]) -> IsOver:
    """Returns what tells whether so much time has passed since now; without a budget there always is time."""
    if budget_ms is None:
        return never
    end = clock() + budget_ms / 1000
    return lambda: clock() >= end
