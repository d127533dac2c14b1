"""The simulator itself as a world model: what a planner could do if its model were perfect.

`OracleWorld` is told the true traffic by a `TrafficSource` (privileged, as everything that looks at
`Obs.origin` or into an environment), and lets its drivers go on by their rules
(`worldmodel.scene.traffic`): they react to what the ego is planned to do. What they misjudge at random, and
who enters the road meanwhile, it does not know.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from worldmodel.evaluation.truth import Traffic, TrafficSource
from worldmodel.protocols import Knowledge
from worldmodel.scene import (
    SPEED,
    RasterSpec,
    comoving_views,
    compose_pose,
    relative_pose,
    render_boxes,
    rollout,
    step,
)
from worldmodel.scene.traffic import Drivers, TrafficState, advance
from worldmodel.types import Indexed, Obs, Prediction, Rollout

Part = TypeVar("Part", TrafficState, Drivers)


@dataclass(frozen=True)
class OracleHidden(Indexed):
    """What `OracleWorld` carries from step to step.

    Attributes:
        traffic: now.
        origin: world pose of the planning frame.
        start: the ego in the planning frame when observed: `(0, 0, 0, speed)`.
        ego: now.
        size: of the ego [m].
        road: patch of the observation.
        tick: steps since the observation.
    """

    traffic: Traffic
    origin: Float[Tensor, "B 3"]
    start: Float[Tensor, "B 4"]
    ego: Float[Tensor, "B 4"]
    size: Float[Tensor, "B 2"]
    road: Float[Tensor, "B R HR WR"]
    tick: int = 0


class OracleWorld:
    """A `WorldModel` that simulates, on the CPU, wherever the observation is.

    Its rasters are drawn in the co-moving frame, so that the gradient of a cost runs through the ego's pose;
    how the others would react to a slightly different action does not enter the gradient, only the cost.

    Args:
        source: knows the traffic.
        spec: of the rasters.
        dt: [s]
    """

    needs = frozenset({Knowledge.TRAFFIC})

    def __init__(self, source: TrafficSource, *, spec: RasterSpec | None = None, dt: float = 0.1) -> None:
        self.source, self.spec, self.dt = source, spec or RasterSpec(), dt

    def init(self, obs: Obs) -> OracleHidden:
        """Asks for the traffic."""
        now = obs.state[:, -1]
        start = torch.cat([torch.zeros_like(now[:, :SPEED]), now[:, SPEED:]], dim=-1)
        traffic = _those_there(self.source.traffic(obs))
        return OracleHidden(traffic, now[:, :SPEED], start, start, obs.size, obs.road)

    def sample_latent(
        self, hidden: OracleHidden, num_steps: int, generator: Generator | None = None
    ) -> Float[Tensor, "B T 0"]:
        """Nothing is left to chance."""
        return hidden.start.new_zeros(hidden.start.shape[0], num_steps, 0)

    def step(
        self, hidden: OracleHidden, action: Float[Tensor, "B 2"], latent: Float[Tensor, "B 0"]
    ) -> tuple[OracleHidden, Prediction]:
        """Moves the ego by the action and the others by their rules."""
        ego, tick = step(hidden.ego, action, self.dt), hidden.tick + 1
        after = replace(hidden, traffic=self._react(hidden, ego[:, None]), ego=ego, tick=tick)
        view = comoving_views(hidden.start, tick, self.dt)[:, -1]
        image = self._draw(self._boxes(after)[:, None], after, view[:, None])[:, 0]
        return after, Prediction(image=image, ego=ego, view=view)

    def unroll(
        self, hidden: OracleHidden, action: Float[Tensor, "B T 2"], latent: Float[Tensor, "B T 0"]
    ) -> Rollout:
        """Equals `step` repeated from a fresh `hidden`, with all frames drawn in one call."""
        ego = rollout(hidden.start, action, self.dt)
        view = comoving_views(hidden.start, action.shape[1], self.dt)
        now, boxes = hidden, []
        for t in range(action.shape[1]):
            now = replace(now, traffic=self._react(now, ego[:, t : t + 1]))
            boxes.append(self._boxes(now))
        return Rollout(
            image=self._draw(torch.stack(boxes, dim=1), now, view),
            ego=ego,
            view=view,
            action=action,
            previous_action=torch.zeros_like(action[:, 0]),
            size=hidden.size,
            road=hidden.road,
        )

    def _react(self, hidden: OracleHidden, ego: Float[Tensor, "B T 4"]) -> Traffic:
        """The traffic after the ego has driven so."""
        traffic, there = hidden.traffic, ego.detach().double()
        world = compose_pose(there, hidden.origin.double()[:, None]).cpu().numpy()
        pose = torch.from_numpy(traffic.curve.to_road(world[..., :SPEED]))
        driven_to = torch.cat([pose, there[..., SPEED:].cpu()], dim=-1)[:, :, None]
        state = advance(
            traffic.state,
            traffic.drivers,
            traffic.curve.road,
            dt=self.dt,
            driven=traffic.ego[:, None],
            driven_to=driven_to,
        )
        return replace(traffic, state=state)

    def _boxes(self, hidden: OracleHidden) -> Float[Tensor, "B V 5"]:
        """The vehicles in the planning frame."""
        state, drivers = hidden.traffic.state, hidden.traffic.drivers
        pose = torch.stack([state.x, state.y, state.heading], dim=-1).numpy()
        world = torch.from_numpy(hidden.traffic.curve.to_world(pose)).to(hidden.origin.device)
        local = relative_pose(world, hidden.origin.double()[:, None])
        return torch.cat([local, torch.stack([drivers.length, drivers.width], dim=-1).to(local)], dim=-1)

    def _draw(
        self, boxes: Float[Tensor, "B T V 5"], hidden: OracleHidden, view: Float[Tensor, "B T 3"]
    ) -> Float[Tensor, "B T 1 H W"]:
        """The others as seen from the views; those who are out of sight are not even tried."""
        valid = hidden.traffic.state.valid.scatter(1, hidden.traffic.ego[:, None], False).to(boxes.device)
        seen = relative_pose(boxes, view[:, :, None].to(boxes)).to(view)
        sight = math.hypot(self.spec.height, self.spec.width) * self.spec.resolution
        is_near = valid[:, None] & (seen[..., :2].norm(dim=-1) < sight + seen[..., 3])
        num = max(int(is_near.sum(-1).max()), 1)
        nearest = is_near.to(torch.uint8).topk(num, dim=-1).indices
        shown = seen.gather(2, nearest[..., None].expand(-1, -1, -1, seen.shape[-1]))
        drawn: Tensor = render_boxes(shown, is_near.gather(2, nearest), self.spec)
        return drawn.unsqueeze(2)


def _those_there(traffic: Traffic) -> Traffic:
    """Returns the traffic without places that nobody has, as few as the fullest scene allows.

    Nothing changes by it: nobody enters while it is imagined, and the vehicles keep their order. Whoever is
    far away stays: by IDM he is felt, if faintly, at any distance.
    """
    state, drivers = traffic.state, traffic.drivers
    there = state.valid.scatter(1, traffic.ego[:, None], True)
    num = int(there.sum(1).max())
    kept = torch.sort((~there).to(torch.uint8), dim=1, stable=True).indices[:, :num]

    def cut(part: Part) -> Part:
        return replace(part, **{one.name: getattr(part, one.name).gather(1, kept) for one in fields(part)})

    order = torch.arange(num).to(state.order).expand_as(kept)
    ego = (kept == traffic.ego[:, None]).to(torch.uint8).argmax(1)
    return replace(traffic, state=replace(cut(state), order=order), drivers=cut(drivers), ego=ego)
