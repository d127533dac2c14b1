"""A world with an exact answer: boxes at constant velocity on a straight road."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from worldmodel.models import Context, FixedContext
from worldmodel.scene import LaneMap, RasterSpec, RoadField, render_boxes
from worldmodel.types import Obs

SPEC = RasterSpec(height=101, width=16, resolution=0.7)
ROAD = torch.from_numpy(
    RoadField(LaneMap.straight(length=400.0, num_lanes=3, lane_width=3.6)).crop(np.array([[100.0, 5.4, 0.0]]))
)


def make_obs(*speeds: float) -> Obs:
    """One scene in the middle lane of three per speed, blind: the model knows the vehicles."""
    B = len(speeds)
    state = torch.zeros(B, 2, 4)
    state[..., 3] = torch.tensor(speeds)[:, None]
    state[:, 0, 0] = -0.1 * torch.tensor(speeds)
    return Obs(
        image=torch.zeros(B, 2, 3, 4, 4, dtype=torch.uint8),
        state=state,
        size=torch.tensor([[4.8, 1.9]]).repeat(B, 1),
        road=ROAD.repeat(B, 1, 1, 1),
        origin=torch.zeros(B, 3, dtype=torch.long),
        scene=torch.arange(B),
    )


class BoxSource:
    """Knows where the vehicles `(x, y, speed)` of each scene are going."""

    def __init__(self, vehicles: Sequence[Sequence[tuple[float, float, float]]]) -> None:
        self.vehicles = vehicles

    def __call__(self, obs: Obs, num_steps: int) -> Context:
        speed = obs.state[:, -1, 3]
        time = torch.arange(1, num_steps + 1) * 0.1
        rows = zip(obs.scene.tolist(), speed, strict=True)
        return Context(torch.stack([self._draw(self.vehicles[scene], v, time) for scene, v in rows]))

    def _draw(self, vehicles: Sequence[tuple[float, float, float]], speed: Tensor, time: Tensor) -> Tensor:
        if not vehicles:
            return torch.zeros(len(time), 1, SPEC.height, SPEC.width)
        boxes = torch.zeros(len(time), len(vehicles), 5)
        for row, (x, y, v) in enumerate(vehicles):
            boxes[:, row] = torch.tensor([x, y, 0.0, 4.8, 1.9])
            boxes[:, row, 0] += (v - speed) * time
        return render_boxes(boxes, torch.ones(boxes.shape[:2], dtype=torch.bool), SPEC)[:, None]


def make_model(*vehicles: Sequence[tuple[float, float, float]]) -> FixedContext:
    """A model in which scene `i` holds `vehicles[i]`."""
    return FixedContext(BoxSource(vehicles))
