"""A policy as a planner: the fast one acts at once, the hybrid improves on it by gradient."""

import torch

from planners.policy.network import Policy
from planners.policy.view import view_of
from worldmodel.scene import rollout
from worldmodel.types import Obs, Plan


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
