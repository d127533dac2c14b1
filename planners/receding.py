"""Receding horizon: plan far, execute little, plan again from what is left of the plan."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.scene import rollout
from worldmodel.types import Obs, Plan


@runtime_checkable
class WarmPlanner(Protocol):
    """A planner without memory that takes warm starts."""

    def reset(self, seed: int | None = None) -> None:
        """Restarts the random numbers."""
        ...

    def plan(
        self,
        obs: Obs,
        *,
        warm_start: Float[Tensor, "B N T 2"] | None = None,
        budget_ms: float | None = None,
    ) -> Plan:
        """Returns the best plan found, `warm_start` being among the starts, in about the time given."""
        ...


def shift(action: Float[Tensor, "*B T 2"], num_steps: int) -> Float[Tensor, "*B T 2"]:
    """Returns what is left of a plan after `num_steps`, made as long again by keeping speed and curvature."""
    left = action[..., num_steps:, :]
    tail = action[..., -1:, :] * action.new_tensor([0.0, 1.0])
    missing = action.shape[-2] - left.shape[-2]
    return torch.cat([left, tail.expand(*tail.shape[:-2], missing, 2)], dim=-2)


@dataclass(frozen=True)
class _Memory:
    """What is left of a scene's plans, the best first, its cost when made, and how long it has been followed.

    `age` is in steps.
    """

    actions: Float[Tensor, "N T 2"]
    cost: Float[Tensor, ""]
    age: int


class RecedingHorizon:
    """A `Planner` that remembers each scene's plan: to start the next from, and to follow in between.

    The first action of each plan must be executed before the scene is seen again. Scenes are told apart by
    `Obs.scene` and may come and go; each is replanned when its own plan is due. New scenes are planned apart
    from known ones, which bring warm starts: so they get the same plan whoever they come with.

    Args:
        planner: makes the plans.
        replan_every: steps for which a plan is followed.
        dt: of a step [s].
        clock: tells the time [s].

    Example:
        >>> planner = RecedingHorizon(GradientPlanner(model, cost), replan_every=3)  # doctest: +SKIP
        >>> planner.plan(obs).action[:, 0]  # doctest: +SKIP
    """

    def __init__(
        self,
        planner: WarmPlanner,
        *,
        replan_every: int = 1,
        dt: float = 0.1,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if replan_every < 1:
            raise ValueError(f"replan_every={replan_every} must be at least 1")
        self.planner, self.replan_every, self.dt, self.clock = planner, replan_every, dt, clock
        self._memory: dict[int, _Memory] = {}

    def reset(self, seed: int | None = None) -> None:
        """Forgets every scene."""
        self._memory.clear()
        self.planner.reset(seed)

    def plan(self, obs: Obs, *, budget_ms: float | None = None) -> Plan:
        """Returns new plans for the scenes that are due, and the rest of their old plan for the others.

        Args:
            obs: the scenes.
            budget_ms: as in `OnlinePlanner`.

        Raises:
            ValueError: when two rows claim to be the same scene.
        """
        scenes: list[int] = obs.scene.tolist()
        if len(set(scenes)) < len(scenes):
            raise ValueError(f"scene numbers {scenes} repeat; give each running episode its own")
        for scene in self._memory.keys() & set(scenes):
            old = self._memory[scene]
            self._memory[scene] = _Memory(shift(old.actions, 1), old.cost, old.age + 1)
        due = [row for row, scene in enumerate(scenes) if self._is_due(scene)]
        known = [row for row in due if scenes[row] in self._memory]
        new = [row for row in due if scenes[row] not in self._memory]
        begin = self.clock()
        if known:
            self._replan(obs[torch.tensor(known, device=obs.scene.device)], budget_ms)
        if new:
            if budget_ms is not None and known:
                budget_ms = max(budget_ms - 1000 * (self.clock() - begin), 0.0)
            self._replan(obs[torch.tensor(new, device=obs.scene.device)], budget_ms)
        kept = [self._memory[scene] for scene in scenes]
        action = torch.stack([one.actions[0] for one in kept])
        speed = obs.state[:, -1, 3:]
        start = torch.cat([torch.zeros_like(obs.state[:, -1, :3]), speed], dim=-1)
        return Plan(action, rollout(start, action, self.dt), torch.stack([one.cost for one in kept]))

    def _is_due(self, scene: int) -> bool:
        return scene not in self._memory or self._memory[scene].age >= self.replan_every

    def _replan(self, obs: Obs, budget_ms: float | None) -> None:
        """Plans anew for scenes that are all known, from what is left of their plans, or all new."""
        scenes: list[int] = obs.scene.tolist()
        left = [self._memory[scene].actions for scene in scenes if scene in self._memory]
        warm_start = torch.stack(left) if left else None
        plan = self.planner.plan(obs, warm_start=warm_start, budget_ms=budget_ms)
        actions = plan.action[:, None]
        if plan.others is not None:
            actions = torch.cat([actions, plan.others], dim=1)
        for scene, mine, cost in zip(scenes, actions, plan.cost, strict=True):
            self._memory[scene] = _Memory(mine, cost, 0)
