"""Keeping to the lane and on the road, read from the road patch at the ego's pose."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from worldmodel.costs.placement import CORNERS, place
from worldmodel.costs.weighted import Terms
from worldmodel.scene import RoadChannel, RoadSpec, sample_road, wrap_angle
from worldmodel.scene.constant import constant
from worldmodel.scene.road import DEFAULT_ROAD
from worldmodel.types import Rollout


def lane_cost(
    road: Float[Tensor, "B R HR WR"], ego: Float[Tensor, "B T S"], spec: RoadSpec
) -> Float[Tensor, "B T"]:
    """Returns the squared offset from the lane's centre in half lane widths: 0 centred, 1 on a marking."""
    return sample_road(road, ego[..., :2], spec)[..., RoadChannel.LANE]


def heading_cost(
    road: Float[Tensor, "B R HR WR"], ego: Float[Tensor, "B T S"], spec: RoadSpec
) -> Float[Tensor, "B T"]:
    """Returns the squared angle between the ego and its lane [rad^2]."""
    direction = sample_road(road, ego[..., :2], spec)[..., RoadChannel.HEADING]
    return wrap_angle(ego[..., 2] - direction).square()


def off_road_cost(edge: Float[Tensor, "*B P"], margin: float) -> Float[Tensor, "*B"]:
    """Returns how far out the worst of `P` points is: 0 with `margin` to spare, 1 on the edge, and so on.

    Args:
        edge: distance of each point to the road's edge, positive inside [m].
        margin: [m]
    """
    return (1 - edge.amin(-1) / margin).relu().square()


@dataclass(frozen=True)
class LaneKeeping:
    """Terms `lane`, `heading` at the ego's centre, and `off_road` at its corners and centre.

    Attributes:
        spec: of the road patch.
        margin: distance to the edge of the road from which on it does not matter [m].
    """

    spec: RoadSpec = DEFAULT_ROAD
    margin: float = 0.5

    def __call__(self, rollout: Rollout) -> Terms:
        corners = (
            constant(CORNERS, rollout.ego) * (rollout.size / 2)[:, None, None]
        )  # (B, 1, P, 2), centre last
        road = sample_road(rollout.road, place(corners, rollout.ego), self.spec)
        lane, edge, direction = road.unbind(-1)  # (B, T, P), in the order of RoadChannel
        return {
            "lane": lane[..., -1],
            "heading": wrap_angle(rollout.ego[..., 2] - direction[..., -1]).square(),
            "off_road": off_road_cost(edge, self.margin),
        }
