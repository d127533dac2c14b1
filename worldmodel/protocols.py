"""The seams of the code base: what a world model, a cost, an objective and a planner must offer, or ask."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Generator, Tensor

from worldmodel.types import CostTerms, Obs, Plan, Prediction, Rollout

Hidden = Any
"""What a world model carries from step to step; private to it."""

Cost = Callable[[Rollout], CostTerms]
"""Rollout -> named terms, each `(B, T)`."""

Objective = Callable[[Float[Tensor, "B N T 2"]], Float[Tensor, "B N"]]
"""Candidate action sequences -> cost: all an online planner ever sees."""


@runtime_checkable
class WorldModel(Protocol):
    """Predicts what the ego sees next. Deterministic given `latent`; differentiable in `action`."""

    @property
    def dt(self) -> float:
        """Time between steps [s]."""
        ...

    def init(self, obs: Obs) -> Hidden:
        """Reads the history once."""
        ...

    def sample_latent(
        self, hidden: Hidden, num_steps: int, generator: Generator | None = None
    ) -> Float[Tensor, "B T Z"]:
        """Draws latents from the prior; `Z` is 0 for a deterministic model."""
        ...

    def step(
        self, hidden: Hidden, action: Float[Tensor, "B 2"], latent: Float[Tensor, "B Z"]
    ) -> tuple[Hidden, Prediction]:
        """Moves one step of `dt`."""
        ...

    def unroll(
        self, hidden: Hidden, action: Float[Tensor, "B T 2"], latent: Float[Tensor, "B T Z"]
    ) -> Rollout:
        """Repeats `step` over the horizon, or does the same faster."""
        ...


@runtime_checkable
class Planner(Protocol):
    """Chooses actions. Memory between calls (warm starts) is keyed by `Obs.scene`."""

    def reset(self, seed: int | None = None) -> None:
        """Forgets every scene and, given a seed, restarts the random numbers."""
        ...

    def plan(self, obs: Obs) -> Plan:
        """Returns a plan whose first action is to be executed now."""
        ...


class Knowledge(StrEnum):
    """What there is to know in an environment, and not in every one."""

    OTHERS = "who is around the ego now"
    TRAFFIC = "simulated traffic with its drivers"
    LOG = "what the recorded driver did in just this traffic"
    FUTURE = "that the others will do what was recorded"


@runtime_checkable
class Privileged(Protocol):
    """A class whose objects look further than their observation, and says at what: a class attribute."""

    @property
    def needs(self) -> frozenset[Knowledge]:
        """What the environment has to know."""
        ...
