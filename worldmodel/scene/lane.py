"""The road: lanelets between left and right bounds, and what can be asked of them.

Everything is exact on the polylines; `worldmodel.scene.road` holds the sampled fields that costs and rasters
read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import shapely
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

CLOSE_GAPS = 0.15
"""Neighbouring lanelets whose bounds differ by less than twice this are one road [m]."""
CENTRE_SPACING = 0.5
"""Distance between the points of a resampled centre line [m]."""

LOOK_AHEAD, LOOK_ASIDE = 15.0, 15.0
"""No road this far ahead of a lanelet's end and up to this far beside it: the map ends there [m]."""
END_LENGTH = 3.0
"""The direction of a lanelet's end is that of this much of its centre line [m]."""


@dataclass(frozen=True)
class Lanelet:
    """One lane's piece of road: `left` and `right` bounds as polylines `(P, 2)` in driving direction [m]."""

    id: int
    left: Float[np.ndarray, "P 2"]
    right: Float[np.ndarray, "Q 2"]

    def centre(
        self, spacing: float = CENTRE_SPACING
    ) -> tuple[Float[np.ndarray, "N 2"], Float[np.ndarray, " N"]]:
        """Returns the centre line, resampled, and the half width at its points [m]."""
        longest = max(_length(self.left), _length(self.right))
        num = max(2, int(np.ceil(longest / spacing)) + 1)
        left, right = _resample(self.left, num), _resample(self.right, num)
        return (left + right) / 2, np.linalg.norm(left - right, axis=1) / 2


@dataclass(frozen=True)
class LaneQuery:
    """What the map says at `N` points.

    Attributes:
        lanelet: index into `LaneMap.lanelets` of the nearest centre line.
        offset: signed distance from that centre line, positive to its left [m].
        half_width: of that lane there [m].
        heading: of that lane there [rad].
    """

    lanelet: Int[np.ndarray, " N"]
    offset: Float[np.ndarray, " N"]
    half_width: Float[np.ndarray, " N"]
    heading: Float[np.ndarray, " N"]


@dataclass(frozen=True, eq=False)
class LaneMap:
    """Lanelets of a road.

    Attributes:
        lanelets: in any order.
        mirror_of: the map that this is the mirror image of, if it is one; what is known of that need not be
            asked again.

    Example:
        >>> road = LaneMap.straight(length=100.0, num_lanes=3, lane_width=3.5)
        >>> road.edge_distance(np.array([[50.0, 0.5]])).round(3)
        array([0.5])
    """

    lanelets: tuple[Lanelet, ...]
    mirror_of: "LaneMap | None" = field(default=None, repr=False)

    @classmethod
    def straight(cls, *, length: float, num_lanes: int, lane_width: float = 3.7) -> "LaneMap":
        """Returns a straight road along `+x` whose right edge is `y = 0`; lanelet 0 is the leftmost lane."""
        lanelets = []
        for lane in range(num_lanes):
            top = (num_lanes - lane) * lane_width
            left = np.array([[0.0, top], [length, top]])
            lanelets.append(Lanelet(lane, left, left - np.array([0.0, lane_width])))
        return cls(tuple(lanelets))

    def mirror(self) -> "LaneMap":
        """Returns the map with left and right swapped (`y` negated); the same object every time."""
        return self._mirrored

    @cached_property
    def _mirrored(self) -> "LaneMap":
        flip = np.array([1.0, -1.0])
        lanelets = (Lanelet(one.id, one.right * flip, one.left * flip) for one in self.lanelets)
        return LaneMap(tuple(lanelets), mirror_of=self)

    def extended(self, length: float) -> "LaneMap":
        """Returns the map with the road going straight on by `length` [m] where the map, not the road, ends.

        A lanelet ends there if no road lies ahead of its end or beside that: what merges or is joined by
        another lanelet stays. Ends close to one another go on in their mean direction.
        """
        ends = [
            _End(index, sign, *_end(one, sign)) for index, one in enumerate(self.lanelets) for sign in (1, -1)
        ]
        ends = [one for one in ends if not self.contains(one.beyond()).any()]
        lanelets = list(self.lanelets)
        for end in ends:
            alike = [one.direction for one in ends if one.is_near(end)]
            shift = length * np.mean(alike, axis=0) / np.linalg.norm(np.mean(alike, axis=0))
            lanelets[end.index] = _prolong(lanelets[end.index], end.sign, shift)
        return LaneMap(tuple(lanelets))

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """Smallest x, smallest y, largest x, largest y [m]."""
        points = np.concatenate([np.concatenate([one.left, one.right]) for one in self.lanelets])
        return (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())

    @cached_property
    def area(self) -> shapely.Geometry:
        """The union of the lanelets, hair-line gaps between neighbours closed."""
        rings = [
            shapely.Polygon(np.concatenate([one.left, one.right[::-1]])).buffer(0) for one in self.lanelets
        ]
        area = (
            shapely.union_all(rings)
            .buffer(CLOSE_GAPS, join_style="mitre")
            .buffer(-CLOSE_GAPS, join_style="mitre")
        )
        shapely.prepare(area)
        return area

    def contains(self, points: Float[np.ndarray, "N 2"]) -> Bool[np.ndarray, " N"]:
        """Returns whether each point is on the road."""
        return np.asarray(shapely.contains_xy(self.area, points[:, 0], points[:, 1]))

    def edge_distance(self, points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, " N"]:
        """Returns the distance to the road's outer boundary [m]: positive inside, negative outside."""
        distance = shapely.distance(self._boundary, shapely.points(points))
        return np.asarray(np.where(self.contains(points), distance, -distance))

    def query(self, points: Float[np.ndarray, "N 2"]) -> LaneQuery:
        """Returns lane, offset, width and heading at the nearest centre line of each point."""
        centre, heading, half_width, owner, tree = self._centre_lines
        nearest = tree.query(points)[1]
        direction = np.stack([np.cos(heading[nearest]), np.sin(heading[nearest])], axis=1)
        delta = points - centre[nearest]
        offset = direction[:, 0] * delta[:, 1] - direction[:, 1] * delta[:, 0]
        return LaneQuery(owner[nearest], offset, half_width[nearest], heading[nearest])

    @cached_property
    def _boundary(self) -> shapely.Geometry:
        boundary = shapely.boundary(self.area)
        shapely.prepare(boundary)
        return boundary

    @cached_property
    def _centre_lines(
        self,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, cKDTree]:
        points, headings, widths, owners = [], [], [], []
        for index, lanelet in enumerate(self.lanelets):
            centre, half_width = lanelet.centre()
            tangent = np.gradient(centre, axis=0)
            points.append(centre)
            headings.append(np.arctan2(tangent[:, 1], tangent[:, 0]))
            widths.append(half_width)
            owners.append(np.full(len(centre), index))
        centre = np.concatenate(points)
        return (
            centre,
            np.concatenate(headings),
            np.concatenate(widths),
            np.concatenate(owners),
            cKDTree(centre),
        )


def merge_lane_maps(maps: Sequence[LaneMap]) -> LaneMap:
    """Returns one map with the lanelets of all, numbered anew."""
    lanelets = [one for lane_map in maps for one in lane_map.lanelets]
    return LaneMap(tuple(Lanelet(index, one.left, one.right) for index, one in enumerate(lanelets)))


@dataclass(frozen=True)
class _End:
    """The last (`sign` 1) or first (-1) point of a lanelet's centre line, and the direction out of it."""

    index: int
    sign: int
    point: Float[np.ndarray, "2"]
    direction: Float[np.ndarray, "2"]

    def beyond(self) -> Float[np.ndarray, "N 2"]:
        """Returns points ahead of the end, from side to side."""
        normal = np.array([-self.direction[1], self.direction[0]])
        aside = np.arange(-LOOK_ASIDE, LOOK_ASIDE + 1.0)[:, None]
        points: np.ndarray = self.point + LOOK_AHEAD * self.direction + aside * normal
        return points

    def is_near(self, other: "_End") -> bool:
        """Returns whether both leave the same cut in about the same direction."""
        distance = np.linalg.norm(self.point - other.point)
        return bool(distance < 2 * LOOK_ASIDE and self.direction @ other.direction > 0.9)


def _end(lanelet: Lanelet, sign: int) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"]]:
    """The centre line's last or first point and its direction there, over the last metres."""
    centre = lanelet.centre()[0][::sign]
    chord = centre[-1] - centre[-min(len(centre), int(END_LENGTH / CENTRE_SPACING))]
    return centre[-1], chord / np.linalg.norm(chord)


def _prolong(lanelet: Lanelet, sign: int, shift: Float[np.ndarray, "2"]) -> Lanelet:
    """The lanelet with a point more on both bounds, at its end or its start."""
    left, right = (
        np.concatenate([line[::sign], line[::sign][-1:] + shift])[::sign]
        for line in (lanelet.left, lanelet.right)
    )
    return Lanelet(lanelet.id, left, right)


def _length(line: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())


def _resample(line: np.ndarray, num: int) -> np.ndarray:
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    target = np.linspace(0.0, along[-1], num)
    return np.stack([np.interp(target, along, line[:, 0]), np.interp(target, along, line[:, 1])], axis=1)
