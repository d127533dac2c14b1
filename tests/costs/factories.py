"""Rollouts of one frame with known vehicles and a known road."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from worldmodel.scene import LaneMap, RasterSpec, RoadField, render_boxes
from worldmodel.types import Rollout

SPEC = RasterSpec()
LENGTH, WIDTH = 4.8, 1.9


@cache
def make_road(offset: float = 0.0, *, num_lanes: int = 3, lane_width: float = 4.0) -> Tensor:
    """The patch around a point `offset` to the left of the middle lane's centre, in float64."""
    lane_map = LaneMap.straight(length=400.0, num_lanes=num_lanes, lane_width=lane_width)
    view = np.array([[150.0, num_lanes * lane_width / 2 + offset, 0.0]])
    return torch.from_numpy(RoadField(lane_map).crop(view)).double()


def make_rollout(
    *boxes: tuple[float, float],
    ego: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 10.0),
    length: float = LENGTH,
    width: float = WIDTH,
    grey: float = 1.0,
    road: Tensor | None = None,
) -> Rollout:
    """One scene, one frame, seen from the origin: a vehicle at each `(x, y)`; the ego where `ego` says."""
    rows = [[x, y, 0.0, length, width] for x, y in boxes] or [[0.0] * 5]
    drawn = render_boxes(torch.tensor([rows]), torch.full((1, len(rows)), bool(boxes)), SPEC)
    return Rollout(
        image=(grey * drawn.clamp(0, 1)).double()[:, None, None],
        ego=torch.tensor([[ego]], dtype=torch.float64),
        view=torch.zeros(1, 1, 3, dtype=torch.float64),
        action=torch.zeros(1, 1, 2, dtype=torch.float64),
        previous_action=torch.zeros(1, 2, dtype=torch.float64),
        size=torch.tensor([[LENGTH, WIDTH]], dtype=torch.float64),
        road=make_road() if road is None else road,
    )
