"""highway-env's road networks as our lane maps.

highway-env's `y` points to the right of `x` (down on its screen) and its headings turn clockwise; ours point
left and counter-clockwise. Both are flipped here and in `envs._highway`, and nowhere else.
"""

import json
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from jaxtyping import Float

from worldmodel.scene import Lanelet, LaneMap

SPACING = 1.0
"""Distance between the points of a curved lane's bounds [m]."""
LONGEST = 3000.0
"""highway-env's highway is 10 km long and nobody gets there; so much of a lane is mapped [m]."""
LOOK_AHEAD, LOOK_ASIDE = 15.0, 15.0
"""No road this far ahead of a lane's end and up to this far beside it: the road ends there [m]."""

LaneIndex = tuple[str, str, int]


@dataclass(frozen=True, eq=False)
class HighwayRoad:
    """A mapped network.

    Attributes:
        lane_map: its lanes, in the order of the network.
        ends: how far along them the lanes end after which there is no road; not those that are dropped [m].
    """

    lane_map: LaneMap
    ends: dict[LaneIndex, float]


_ROADS: WeakValueDictionary[str, HighwayRoad] = WeakValueDictionary()
"""Those in use: the fields and textures of a map take seconds, and every scene of a scenario has the same."""


def mapped(network: Any) -> HighwayRoad:
    """Returns the road of a `highway_env.road.road.RoadNetwork`; the same object for the same network."""
    key = json.dumps([network.to_config(), LONGEST], sort_keys=True)
    road = _ROADS.get(key)
    if road is None:
        road = _ROADS[key] = _mapped(network)
    return road


def flipped(points: Float[np.ndarray, "*N 2"]) -> Float[np.ndarray, "*N 2"]:
    """Returns positions of highway-env in our axes, or ours in its."""
    return points * np.array([1.0, -1.0])


def _mapped(network: Any) -> HighwayRoad:
    lanes = network.lanes_dict()
    lane_map = LaneMap(tuple(_lanelet(number, lane) for number, lane in enumerate(lanes.values())))
    lengths = {index: _length(lane) for index, lane in lanes.items()}
    ends = {index: lengths[index] for index, lane in lanes.items() if _is_open(lane, lane_map)}
    return HighwayRoad(lane_map, ends)


def _length(lane: Any) -> float:
    return float(min(lane.length, LONGEST))


def _lanelet(number: int, lane: Any) -> Lanelet:
    """A lane's bounds: `position(s, d)` at half its width to the left (negative `d`) and right."""
    length = _length(lane)
    is_straight = type(lane).__name__ == "StraightLane"
    along = np.linspace(0.0, length, 2 if is_straight else int(np.ceil(length / SPACING)) + 1)
    left, right = (
        np.array([lane.position(s, side * lane.width_at(s) / 2) for s in along]) for side in (-1, 1)
    )
    return Lanelet(number, flipped(left), flipped(right))


def _is_open(lane: Any, lane_map: LaneMap) -> bool:
    """Whether no road lies ahead of the lane's end, from side to side."""
    length = _length(lane)
    heading = lane.heading_at(length)
    ahead = np.array([np.cos(heading), np.sin(heading)])
    aside = np.arange(-LOOK_ASIDE, LOOK_ASIDE + 1.0)[:, None] * np.array([-ahead[1], ahead[0]])
    return not lane_map.contains(flipped(lane.position(length, 0) + LOOK_AHEAD * ahead + aside)).any()
