"""What is really there: what environments tell privileged agents, and how those ask for it.

An agent that is built with a `Truth` may ask it, at every decision, who is around the rows of its observation
(`others`) or how the whole simulated traffic stands (`traffic`). Whoever drives the agent tells the truth
which environment that is, and which of its slots holds which scene (`watch`). An agent without one sees
nothing but its observation.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium.vector import VectorEnv
from jaxtyping import Bool, Float, Int
from torch import Tensor

from worldmodel.protocols import Knowledge
from worldmodel.scene.traffic import Drivers, TrafficRoad, TrafficState
from worldmodel.types import Indexed, Obs


@dataclass(frozen=True)
class Others:
    """Who is around `N` egos, padded to the same number.

    Attributes:
        box: x, y, heading, length, width [m, rad].
        speed: [m/s]
        id: number that `hit_id` reports.
        valid: whether there is such a vehicle; the ego itself is not.
    """

    box: Float[np.ndarray, "N V 5"]
    speed: Float[np.ndarray, "N V"]
    id: Int[np.ndarray, "N V"]
    valid: Bool[np.ndarray, "N V"]

    def __getitem__(self, index: np.ndarray) -> "Others":
        """Returns those around the egos `index`."""
        return Others(*(getattr(self, one.name)[index] for one in fields(self)))


@runtime_checkable
class Curve(Protocol):
    """A road, and where it lies in the world."""

    @property
    def road(self) -> TrafficRoad:
        """In its own coordinates."""
        ...

    def to_world(self, pose: Float[np.ndarray, "*B 3"]) -> Float[np.ndarray, "*B 3"]:
        """Returns poses `x, y, heading` in the world."""
        ...

    def to_road(self, pose: Float[np.ndarray, "*B 3"]) -> Float[np.ndarray, "*B 3"]:
        """Returns poses in the road's coordinates."""
        ...


@dataclass(frozen=True)
class Traffic(Indexed):
    """How simulated traffic stands, one scene for each row of an observation.

    Attributes:
        state: of all vehicles, the ego among them, in the road's coordinates.
        drivers: theirs.
        ego: row of the ego.
        curve: the road, and where it lies.
    """

    state: TrafficState
    drivers: Drivers
    ego: Int[Tensor, " B"]
    curve: Curve

    def __getitem__(self, index: Tensor | slice) -> "Traffic":
        """Returns the scenes `index`, which may be on another device: simulated traffic is on the CPU."""
        there = index.cpu() if isinstance(index, Tensor) else index
        return replace(self, state=self.state[there], drivers=self.drivers[there], ego=self.ego[there])


@runtime_checkable
class OthersSource(Protocol):
    """Knows who is around."""

    def others(self, obs: Obs) -> Others:
        """Returns everybody but the egos, in the world, at the newest frame of the observation."""
        ...


@runtime_checkable
class TrafficSource(Protocol):
    """Knows the simulated traffic."""

    def traffic(self, obs: Obs) -> Traffic:
        """Returns the traffic that the observation shows, at its newest frame."""
        ...


@runtime_checkable
class Knowing(Protocol):
    """An environment that says what there is to know in it."""

    @property
    def knows(self) -> frozenset[Knowledge]:
        """All of it."""
        ...


@runtime_checkable
class ShowsOthers(Protocol):
    """An environment whose egos are among vehicles."""

    def others(self, slots: Int[np.ndarray, " N"]) -> Others:
        """Returns everybody but the egos of `slots`, at their newest frames."""
        ...


@runtime_checkable
class ShowsTraffic(Protocol):
    """An environment that simulates its traffic."""

    def traffic(self, slots: Int[np.ndarray, " N"]) -> Traffic:
        """Returns how the traffic of `slots` stands; nobody else will write to it."""
        ...


class Truth:
    """An `OthersSource` and `TrafficSource`: the environment that is being driven in.

    Example:
        >>> truth = Truth()
        >>> truth.watch(env, scene=np.array([7, 4]))  # doctest: +SKIP
        >>> truth.others(obs).box  # of the slots whose scenes are the rows of `obs`  # doctest: +SKIP
    """

    def __init__(self) -> None:
        self._env: Any = None
        self._slots: dict[int, int] = {}

    def watch(self, env: VectorEnv, scene: Int[np.ndarray, " N"]) -> None:
        """Answers for `env` from now on.

        Args:
            env: what is being driven in.
            scene: the `Obs.scene` that each slot's rows will have; negative where nobody looks.

        Raises:
            ValueError: two slots claim to be the same scene.
        """
        slots = np.flatnonzero(scene >= 0)
        numbers = scene[slots].tolist()
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"scene numbers {numbers} repeat; give each running episode its own")
        self._env, self._slots = env.unwrapped, dict(zip(numbers, slots.tolist(), strict=True))

    def others(self, obs: Obs) -> Others:
        """Returns everybody but the egos, in the world, at the newest frame of the observation.

        Raises:
            ValueError: the environment has no vehicles to show, or none of its slots holds a scene.
        """
        slots = self._slots_of(obs)
        if not isinstance(self._env, ShowsOthers):
            raise ValueError(self._ignorance(Knowledge.OTHERS))
        return self._env.others(slots)

    def traffic(self, obs: Obs) -> Traffic:
        """Returns the traffic that the observation shows, at its newest frame.

        Raises:
            ValueError: the environment does not simulate, or none of its slots holds a scene.
        """
        slots = self._slots_of(obs)
        if not isinstance(self._env, ShowsTraffic):
            raise ValueError(self._ignorance(Knowledge.TRAFFIC))
        return self._env.traffic(slots)

    def _slots_of(self, obs: Obs) -> Int[np.ndarray, " B"]:
        scenes = obs.scene.tolist()
        if missing := sorted(set(scenes) - self._slots.keys()):
            raise ValueError(
                f"scenes {missing} are in no slot of the environment that is watched, which holds "
                f"{sorted(self._slots)}; call watch(env, scene) before planning"
            )
        return np.array([self._slots[scene] for scene in scenes], dtype=np.int64)

    def _ignorance(self, wanted: Knowledge) -> str:
        return f"{type(self._env).__name__} does not know {wanted}; drive the agent in another environment"
