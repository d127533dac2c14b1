"""Where a traffic road lies in the world: from its coordinates to poses and back, and as a `LaneMap`.

The road's `x` is the length along the reference line, its `y` the distance to the left of it: Frenet
coordinates. Off the reference line a curve makes a metre of `x` longer or shorter in the world, by `1 - y`
times the curvature; drivers do not care.
"""

from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.integrate import cumulative_trapezoid
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from worldmodel.scene.lane import Lanelet, LaneMap
from worldmodel.scene.traffic.road import LaneEnd, TrafficRoad

SPACING = 2.0
"""Distance between the points of a curved lane's bounds [m]."""
TAPER = 60.0
"""Length over which a lane that is over narrows to nothing [m]."""
ROUNDS = 12
"""Corrections of a foot point; each is better than the last by the curvature times the offset."""


class RoadCurve:
    """The road in the world; poses are `x, y, heading` in the last dimension.

    Example:
        >>> curve = RoadCurve(TrafficRoad.ring(num_lanes=1, length=2 * np.pi * 100.0))
        >>> curve.to_world(np.array([np.pi * 50.0, 0.0, 0.0])).round(3)
        array([100.   , 100.   ,   1.571])
    """

    def __init__(self, road: TrafficRoad) -> None:
        self.road = road
        self._is_straight = road.reference is None and not road.is_ring
        self._spline = None if self._is_straight else _spline(road)

    def to_world(self, pose: Float[np.ndarray, "*B 3"]) -> Float[np.ndarray, "*B 3"]:
        """Returns poses in the world; beyond its ends the reference line goes straight on."""
        if self._is_straight:
            return pose
        point, heading = self._foot(pose[..., 0])
        normal = np.stack([-np.sin(heading), np.cos(heading)], axis=-1)
        return np.concatenate([point + pose[..., 1:2] * normal, (heading + pose[..., 2])[..., None]], axis=-1)

    def to_road(self, pose: Float[np.ndarray, "*B 3"]) -> Float[np.ndarray, "*B 3"]:
        """Returns poses in the road's coordinates: the inverse of `to_world` near the road."""
        if self._is_straight:
            return pose
        step, tree = self._samples
        x = step * tree.query(pose[..., :2])[1].astype(np.float64)
        for _ in range(ROUNDS):
            point, heading = self._foot(x)
            delta = pose[..., :2] - point
            x = x + delta[..., 0] * np.cos(heading) + delta[..., 1] * np.sin(heading)
        point, heading = self._foot(x)
        delta = pose[..., :2] - point
        y = delta[..., 1] * np.cos(heading) - delta[..., 0] * np.sin(heading)
        turn = (pose[..., 2] - heading + np.pi) % (2 * np.pi) - np.pi
        return np.stack([x % self.road.length if self.road.is_ring else x, y, turn], axis=-1)

    def lane_map(self) -> LaneMap:
        """Returns the road as a map, lane by lane; lanes that are over taper off."""
        lanelets = []
        for number, (lane, row) in enumerate(zip(self.road.lanes, self.road.table, strict=True)):
            x = self._stations(float(row["start"]), float(row["end"]))
            left, right = (np.full_like(x, row["centre"] + side * self.road.width / 2) for side in (1, -1))
            if lane.kind == LaneEnd.CLOSED:
                x = np.concatenate([x, self._stations(x[-1], x[-1] + TAPER)[1:]])
                shrink = np.clip((x - row["end"]) / TAPER, 0.0, 1.0) * self.road.width
                left = row["centre"] + self.road.width / 2 - shrink * (row["escape"] > 0)
                right = row["centre"] - self.road.width / 2 + shrink * (row["escape"] < 0)
            bounds = [np.stack([x, y + 0 * x, 0 * x], axis=1) for y in (left, right)]
            lanelets.append(Lanelet(number, *(self.to_world(bound)[:, :2] for bound in bounds)))
        return LaneMap(tuple(lanelets))

    def _stations(self, first: float, last: float) -> np.ndarray:
        num = 1 if self._is_straight else int(np.ceil((last - first) / SPACING))
        return np.linspace(first, last, num + 1)

    def _foot(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the reference line's point and direction at `x`."""
        assert self._spline is not None
        x = x % self.road.length if self.road.is_ring else x
        inside = np.clip(x, 0.0, self._spline.x[-1])
        tangent = self._spline(inside, 1)
        tangent = tangent / np.linalg.norm(tangent, axis=-1, keepdims=True)
        point = self._spline(inside) + (x - inside)[..., None] * tangent
        return point, np.arctan2(tangent[..., 1], tangent[..., 0])

    @cached_property
    def _samples(self) -> tuple[float, cKDTree]:
        """Spacing of points along the reference line, and the points."""
        assert self._spline is not None
        x = np.linspace(0.0, self._spline.x[-1], int(self._spline.x[-1] / SPACING) + 2)
        return float(x[1]), cKDTree(self._spline(x))


def _spline(road: TrafficRoad) -> CubicSpline:
    """Returns the reference line, smooth, by its length."""
    if road.reference is None:
        radius, turn = road.length / (2 * np.pi), np.linspace(0.0, 2 * np.pi, 721)
        points = radius * np.stack([np.sin(turn), 1.0 - np.cos(turn)], axis=1)
        points[-1] = points[0]
        return CubicSpline(radius * turn, points, bc_type="periodic")
    chord = np.linalg.norm(np.diff(road.reference, axis=0), axis=1)
    curve = CubicSpline(np.concatenate([[0.0], np.cumsum(chord)]), road.reference)
    fine = np.linspace(0.0, curve.x[-1], max(100, int(4 * curve.x[-1])))
    points = curve(fine)
    length = cumulative_trapezoid(np.linalg.norm(curve(fine, 1), axis=1), fine, initial=0.0)
    if length[-1] < road.length:
        raise ValueError(
            f"the reference line is {length[-1]:.1f} m long, the road {road.length} m; prolong the line or "
            "shorten the road"
        )
    keep = np.linspace(0, len(fine) - 1, max(2, len(fine) // 8)).round().astype(int)
    return CubicSpline(length[keep], points[keep])
