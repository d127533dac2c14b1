"""A policy as a planner: the fast one acts at once, the hybrid improves on it."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from planners.online import OnlinePlanner, deadline
from planners.policy.imagine import start_from, travel
from planners.policy.network import Policy
from planners.policy.view import view_of
from worldmodel.protocols import Hidden, WorldModel
from worldmodel.scene import rollout
from worldmodel.types import Obs, Plan, Prediction, Rollout


class PolicyPlanner:
    """A `Planner` that does what a policy says: no world model, no optimisation, no memory.

    Args:
        policy: acts by its mean.

    Example:
        >>> from planners.policy import PolicyNetwork
        >>> planner = PolicyPlanner(PolicyNetwork())
        >>> planner.reset()
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def reset(self, seed: int | None = None) -> None:
        """Does nothing: there is neither memory nor chance."""

    def plan(self, obs: Obs) -> Plan:
        """Returns one step, and the state it leads to."""
        spec = self.policy.view_spec
        with torch.no_grad():
            view = view_of(obs, spec)
            action = self.policy(view).unsqueeze(1)
        start = torch.cat([torch.zeros_like(obs.state[:, -1, :3]), obs.state[:, -1, 3:]], dim=-1)
        return Plan(
            action=action, ego=rollout(start, action.to(start), spec.dt), cost=torch.zeros_like(start[:, 0])
        )


class PolicyProposal:
    """The hybrid: the policy drives through the world model, and the planner starts from what it did.

    A `WarmPlanner`: inside `RecedingHorizon` the rest of the last plan is a further start. By the planner's
    objective (its `objective_fn`) the plan is never worse than the policy's own drive, which the policy takes
    in the first future that the planner's model draws. The history is read once for both.

    Args:
        policy: proposes.
        planner: improves.

    Example:
        >>> from planners import RecedingHorizon
        >>> hybrid = RecedingHorizon(PolicyProposal(policy, GradientPlanner(world, cost)))  # doctest: +SKIP
    """

    def __init__(self, policy: Policy, planner: OnlinePlanner) -> None:
        self.policy, self.planner = policy, planner

    def reset(self, seed: int | None = None) -> None:
        """Restarts the planner's random numbers."""
        self.planner.reset(seed)

    def plan(
        self,
        obs: Obs,
        *,
        warm_start: Float[Tensor, "B N T 2"] | None = None,
        budget_ms: float | None = None,
    ) -> Plan:
        """Returns the best of the proposal and what was found from it and from the warm start."""
        planner, is_over = self.planner, deadline(budget_ms, self.planner.clock)
        with torch.no_grad():
            generator = Generator(obs.state.device).manual_seed(0)
            start = start_from(planner.model, obs, horizon=planner.horizon, generator=generator)
            proposal = torch.stack(list(travel(self.policy, start).actions), dim=1).unsqueeze(1)
        read = _Read(planner.model, start.hidden)
        objective = planner.objective_fn(read, planner.cost, obs, discount=planner.discount)
        starts = proposal if warm_start is None else torch.cat([proposal, warm_start], dim=1)
        speed = obs.state[:, -1, 3]
        found = planner.improve(objective, speed, starts=starts, is_over=is_over)
        with torch.no_grad():
            proposed = objective(proposal)[:, 0]
        is_better = proposed < found.cost
        action = torch.where(is_better[:, None, None], proposal[:, 0], found.action)
        still = torch.cat([torch.zeros_like(speed)[:, None].expand(-1, 3), speed[:, None]], dim=-1)
        ego = rollout(still, action, planner.model.dt)
        return replace(found, action=action, ego=ego, cost=torch.where(is_better, proposed, found.cost))


@dataclass(frozen=True)
class _Read:
    """A `WorldModel` that has read the observation already, and is asked about no other."""

    model: WorldModel
    hidden: Hidden

    @property
    def dt(self) -> float:
        return self.model.dt

    def init(self, obs: Obs) -> Hidden:
        return self.hidden

    def sample_latent(
        self, hidden: Hidden, num_steps: int, generator: Generator | None = None
    ) -> Float[Tensor, "B T Z"]:
        return self.model.sample_latent(hidden, num_steps, generator)

    def step(
        self, hidden: Hidden, action: Float[Tensor, "B 2"], latent: Float[Tensor, "B Z"]
    ) -> tuple[Hidden, Prediction]:
        return self.model.step(hidden, action, latent)

    def unroll(
        self, hidden: Hidden, action: Float[Tensor, "B T 2"], latent: Float[Tensor, "B T Z"]
    ) -> Rollout:
        return self.model.unroll(hidden, action, latent)
