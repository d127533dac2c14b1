"""A planner that computes elsewhere than where the scenes are."""

import torch

from worldmodel.protocols import Planner
from worldmodel.types import Obs, Plan


class OnDevice:
    """Moves observations to the device of a planner, and its plans back.

    Args:
        planner: whose models are on `device`.
        device: such as `cuda`.

    Example:
        >>> policy = worldmodel.load("policy.pt", device="cuda")  # doctest: +SKIP
        >>> planner = OnDevice(PolicyPlanner(policy), "cuda")  # doctest: +SKIP
    """

    def __init__(self, planner: Planner, device: torch.device | str) -> None:
        self.planner, self.device = planner, torch.device(device)

    def reset(self, seed: int | None = None) -> None:
        """Resets the planner."""
        self.planner.reset(seed)

    def plan(self, obs: Obs) -> Plan:
        """Returns the plan, where the observation is."""
        plan: Plan = self.planner.plan(obs.to(self.device)).to(obs.state.device)
        return plan
