"""The ego as a simulated driver: it follows and changes lanes by the rules of the others around it.

At every decision the simulator is asked what it would do in the ego's place (`worldmodel.scene.traffic`), and
our action leads to the speed and heading that it would have: IDM and MOBIL, on any road, driven through the
same pedal and wheel as everybody's. Privileged: it needs the traffic as it stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodel.evaluation.truth import TrafficSource
from worldmodel.protocols import Knowledge
from worldmodel.scene import inverse, rollout
from worldmodel.scene.traffic import Drivers, Population, TrafficState, advance
from worldmodel.types import Obs, Plan

Part = TypeVar("Part", TrafficState, Drivers)
REMEMBERED = ("target", "timer", "noise")
"""Fields of `TrafficState` that are in a driver's head; the environment, for which we drive, has others."""
VEHICLE = ("length", "width", "exit")
"""Fields of `Drivers` that stay whoever takes the seat."""


@dataclass
class _Mind:
    """A driver.

    Attributes:
        generator: of what he misjudges.
        traits: fields of `Drivers`; those that are missing are the environment's.
        memory: what he is about.
    """

    generator: np.random.Generator
    traits: Mapping[str, float | int]
    memory: Mapping[str, float | int] = field(default_factory=dict)


class SimulatedDriver:
    """A `Planner` that drives the ego as the simulator would.

    Args:
        source: knows the traffic.
        population: who takes the driver's seat; by default the driver whom the environment has drawn for the
            ego's vehicle, and whom the others take it to have.
        dt: [s]
    """

    needs = frozenset({Knowledge.TRAFFIC})

    def __init__(
        self, source: TrafficSource, *, population: Population | None = None, dt: float = 0.1
    ) -> None:
        self.source, self.population, self.dt = source, population, dt
        self._seed = 0
        self._minds: dict[int, _Mind] = {}

    def reset(self, seed: int | None = None) -> None:
        """Forgets every scene and, given a seed, draws other drivers, who misjudge other things."""
        self._minds.clear()
        self._seed = self._seed if seed is None else seed

    def plan(self, obs: Obs) -> Plan:
        """Returns the step that the driver takes."""
        scenes: list[int] = obs.scene.tolist()
        for scene in scenes:
            if scene not in self._minds:
                self._minds[scene] = self._draw(scene)
        minds = [self._minds[scene] for scene in scenes]
        traffic = self.source.traffic(obs)
        noise = torch.zeros_like(traffic.state.x)
        drawn = [float(mind.generator.standard_normal()) for mind in minds]
        noise.scatter_(1, traffic.ego[:, None], noise.new_tensor(drawn)[:, None])
        after = advance(
            _with(traffic.state, traffic.ego, [mind.memory for mind in minds]),
            _with(traffic.drivers, traffic.ego, [mind.traits for mind in minds]),
            traffic.curve.road,
            dt=self.dt,
            noise=noise[:, None],
        )
        rows = torch.arange(len(scenes))
        for row, (mind, ego) in enumerate(zip(minds, traffic.ego.tolist(), strict=True)):
            mind.memory = {name: getattr(after, name)[row, ego].item() for name in REMEMBERED}
        road = torch.stack([after.x, after.y, after.heading], dim=-1)[rows, traffic.ego]
        pose = torch.from_numpy(traffic.curve.to_world(road.numpy()))
        return self._towards(obs, torch.cat([pose, after.speed[rows, traffic.ego][:, None]], dim=-1))

    def _draw(self, scene: int) -> _Mind:
        generator = np.random.default_rng([self._seed, scene])
        drawn = {} if self.population is None else self.population.draw(generator, 1)
        return _Mind(generator, {name: one.item() for name, one in drawn.items() if name not in VEHICLE})

    def _towards(self, obs: Obs, wanted: Float[Tensor, "B 4"]) -> Plan:
        """The action that leads to the speed and heading of the wanted state."""
        now = obs.state[:, -1].to(wanted)
        action = inverse(torch.stack([now, wanted], dim=1), self.dt).to(obs.state)
        start = torch.cat([torch.zeros_like(obs.state[:, -1, :3]), obs.state[:, -1, 3:]], dim=-1)
        return Plan(action, rollout(start, action, self.dt), torch.zeros_like(start[:, 0]))


def _with(part: Part, ego: Int[Tensor, " B"], values: Sequence[Mapping[str, float | int]]) -> Part:
    """Returns the traffic with other values in the egos' rows."""
    changed: dict[str, Tensor] = {}
    for row, (column, given) in enumerate(zip(ego.tolist(), values, strict=True)):
        for name, value in given.items():
            changed.setdefault(name, getattr(part, name).clone())[row, column] = value
    return replace(part, **changed)
