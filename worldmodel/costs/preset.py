"""Ready-made costs: safe motorway driving, and PPUU's."""

from collections.abc import Mapping, Sequence

from worldmodel.costs.comfort import Comfort
from worldmodel.costs.goal import Goal
from worldmodel.costs.lane import LaneKeeping
from worldmodel.costs.ppuu import PPUU
from worldmodel.costs.proximity import Proximity
from worldmodel.costs.weighted import TermFn, WeightedCost
from worldmodel.scene import RasterSpec, RoadSpec
from worldmodel.scene.raster import DEFAULT_SPEC
from worldmodel.scene.road import DEFAULT_ROAD

MOTORWAY_WEIGHTS: Mapping[str, float] = {
    "front": 10.0,
    "rear": 5.0,
    "side": 5.0,
    "lane": 0.3,
    "heading": 2.0,
    "off_road": 5.0,
    "accel": 0.02,
    "jerk": 0.0005,
    "lateral": 0.05,
    "curvature": 1.0,
    "progress": 2.0,
    "overspeed": 5.0,
    "reverse": 5.0,
}
"""Contact costs more than anything else; a lane change is worth about a second of hard braking."""
PPUU_WEIGHTS: Mapping[str, float] = {"ppuu_proximity": 1.0, "ppuu_lane": 0.2, "ppuu_off_road": 1.0}
"""As published."""


def motorway_cost(
    spec: RasterSpec = DEFAULT_SPEC,
    road_spec: RoadSpec = DEFAULT_ROAD,
    *,
    target_speed: float = 30.0,
    dt: float = 0.1,
    weights: Mapping[str, float] | None = None,
    extra: Sequence[TermFn] = (),
) -> WeightedCost:
    """Returns the cost of driving safely and comfortably at up to `target_speed` [m/s].

    Args:
        spec: of the predicted rasters.
        road_spec: of the road patch.
        target_speed: [m/s]
        dt: [s]
        weights: replaces single `MOTORWAY_WEIGHTS`, and must name the terms of `extra`.
        extra: further term functions, such as `Uncertainty`.
    """
    costs: tuple[TermFn, ...] = (
        Proximity(spec),
        LaneKeeping(road_spec),
        Comfort(dt),
        Goal(target_speed),
        *extra,
    )
    return WeightedCost(costs, {**MOTORWAY_WEIGHTS, **(weights or {})})


def ppuu_cost(spec: RasterSpec = DEFAULT_SPEC, road_spec: RoadSpec = DEFAULT_ROAD) -> WeightedCost:
    """Returns PPUU's cost with its published weights."""
    return WeightedCost((PPUU(spec, road_spec),), PPUU_WEIGHTS)
