"""Distilling the planner: the policy drives in imagination and learns what the planner would have done there.

Target propagation (as in DAgger, the states are the policy's own): at some steps of an imagined drive the
planner plans on what is left of the imagined future, and the first action of its plan is what the policy
should have done. No gradient passes through the world model; the planner has used it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn

from planners.gradient import GradientPlanner
from planners.objective import make_objective
from planners.policy.imagine import Start, Trip, noise_for, travel
from planners.policy.loss import PolicyLoss
from planners.policy.network import PolicyNetwork
from planners.policy.start import StartFn
from worldmodel.models import Context, FixedContext
from worldmodel.models.context import FixedContextHidden
from worldmodel.protocols import Cost
from worldmodel.types import Clip


@dataclass(frozen=True)
class Distillation:
    """The negative log-likelihood of the planner's actions at states that the policy got into.

    Attributes:
        start_fn: gives the imagined future, a `FixedContext` (`ContextStart`).
        cost: that the planner minimises.
        drive: steps that the policy drives.
        horizon: that the planner looks ahead.
        num_moments: of the drive at which the planner is asked.
        num_knots: of the planner, as the next.
        num_iterations: of its optimiser.
    """

    start_fn: StartFn
    cost: Cost
    drive: int = 15
    horizon: int = 30
    num_moments: int = 2
    num_knots: int = 6
    num_iterations: int = 10

    @property
    def modules(self) -> Sequence[nn.Module]:
        """None."""
        return ()

    def prepare(self, clips: Sequence[Clip], *, generator: Generator) -> None:
        """Does nothing."""

    def __call__(self, policy: PolicyNetwork, clip: Clip, *, generator: Generator) -> PolicyLoss:
        whole = self.start_fn(policy, clip, horizon=self.drive + self.horizon, generator=generator)
        start = replace(whole, latent=whole.latent[:, : self.drive])
        with torch.no_grad():
            trip = travel(policy, start, noise=noise_for(policy, start, generator))
        moments = torch.randperm(self.drive, generator=generator, device=generator.device)
        losses = []
        for moment in moments[: self.num_moments].tolist():
            target = self._target(policy, start, trip, moment)
            losses.append(-policy.log_prob(trip.views[moment], target).mean())
        nll = torch.stack(losses).mean()
        return PolicyLoss(nll, {"nll": nll.detach()})

    def _target(self, policy: PolicyNetwork, start: Start, trip: Trip, moment: int) -> Tensor:
        """What the planner does at a moment of the drive."""
        hidden = start.hidden
        if not isinstance(hidden, FixedContextHidden) or not isinstance(start.world, FixedContext):
            raise ValueError("distillation plans in a FixedContext; use ContextStart as start_fn")
        ego = trip.frames[moment - 1].ego if moment else hidden.start
        ahead = slice(moment, moment + self.horizon)
        variance = hidden.context.variance
        there = replace(
            hidden,
            context=Context(hidden.context.image[:, ahead], None if variance is None else variance[:, ahead]),
            view=hidden.view[:, ahead],
            start=ego,
            ego=ego,
        )
        planner = GradientPlanner(
            start.world,
            self.cost,
            horizon=self.horizon,
            num_knots=self.num_knots,
            num_iterations=self.num_iterations,
            bounds=policy.bounds,
        )
        objective = make_objective(
            start.world,
            self.cost,
            start.obs,
            hidden=there,
            previous_action=trip.views[moment].ego[:, 1:3],
        )
        return planner.improve(objective, ego[:, 3]).action[:, 0]
