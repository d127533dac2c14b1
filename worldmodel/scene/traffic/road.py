"""Roads for simulated traffic: parallel lanes along a reference line, in Frenet coordinates.

A vehicle's `x` is the distance along the reference line and its `y` the distance to the line's left, so that
traffic sees straight parallel lanes whatever the road looks like from above. Lane 0 is the leftmost; its
centre is the reference line. `worldmodel.scene.traffic.curve` maps to the world and back.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from jaxtyping import Float

from worldmodel.scene.traffic._car import LANE

LANE_WIDTH = 4.0
"""highway-env's [m]."""
SPEED_LIMIT = 30.0
"""highway-env's [m/s]."""


class LaneEnd(IntEnum):
    """What is where a lane ends.

    OPEN: the road goes on beyond what is simulated; traffic drives out.
    CLOSED: the lane is over, and its drivers have to be in another by then.
    EXIT: drivers whose `exit` it is leave the road there; for all others it is closed.
    """

    OPEN = 0
    CLOSED = 1
    EXIT = 2


@dataclass(frozen=True)
class TrafficLane:
    """One lane.

    Attributes:
        start: where it begins [m].
        end: where it ends; None: with the road [m].
        kind: what is at its end.
        crossing: stretch in which drivers may change between this lane and the next one to its left [m].
        speed_limit: [m/s]
    """

    start: float = 0.0
    end: float | None = None
    kind: LaneEnd = LaneEnd.OPEN
    crossing: tuple[float, float] = (-math.inf, math.inf)
    speed_limit: float = SPEED_LIMIT


@dataclass(frozen=True, eq=False)
class TrafficRoad:
    """Parallel lanes along a reference line.

    Attributes:
        lanes: from left to right.
        length: of the road [m].
        width: of every lane [m].
        is_ring: the end of the road is its start.
        reference: centre of the leftmost lane as a polyline in the world [m]; None: along `+x` from the
            origin. A ring without one is a circle.

    Example:
        >>> road = TrafficRoad.straight(num_lanes=3, length=1000.0)
        >>> road.centre
        array([ 0., -4., -8.])
    """

    lanes: Sequence[TrafficLane]  # kept as a tuple
    length: float
    width: float = LANE_WIDTH
    is_ring: bool = False
    reference: Float[np.ndarray, "P 2"] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "lanes", tuple(self.lanes))
        if not self.lanes or self.length <= 0 or self.width <= 0:
            raise ValueError(
                f"{len(self.lanes)} lanes, length={self.length}, width={self.width}: expected at least one "
                "lane and positive metres"
            )
        if LaneEnd.OPEN not in [lane.kind for lane in self.lanes]:
            raise ValueError("every lane is closed; expected one that goes on (kind OPEN)")
        for number, lane in enumerate(self.lanes):
            end = self.length if lane.end is None else lane.end
            if not 0 <= lane.start < end <= self.length:
                raise ValueError(
                    f"lane {number} from {lane.start} to {end} m, expected a stretch of 0 to {self.length} m"
                )
            if lane.kind == LaneEnd.OPEN and end < self.length:
                raise ValueError(
                    f"lane {number} ends open at {end} m, {self.length - end} m before the road does; make "
                    "it CLOSED or EXIT"
                )

    @classmethod
    def straight(
        cls,
        *,
        num_lanes: int,
        length: float = 10_000.0,
        width: float = LANE_WIDTH,
        speed_limit: float = SPEED_LIMIT,
    ) -> "TrafficRoad":
        """Returns `num_lanes` open lanes; by default highway-env's road with `y` and headings negated."""
        return cls((TrafficLane(speed_limit=speed_limit),) * num_lanes, length, width)

    @classmethod
    def ring(
        cls, *, num_lanes: int, length: float, width: float = LANE_WIDTH, speed_limit: float = SPEED_LIMIT
    ) -> "TrafficRoad":
        """Returns a circle of `length` [m], measured along the leftmost, innermost lane."""
        return cls((TrafficLane(speed_limit=speed_limit),) * num_lanes, length, width, is_ring=True)

    @property
    def num_lanes(self) -> int:
        return len(self.lanes)

    @cached_property
    def centre(self) -> Float[np.ndarray, " L"]:
        """Lateral position of the lanes' centres [m]."""
        return -np.arange(self.num_lanes) * self.width

    @cached_property
    def table(self) -> np.ndarray:
        """The lanes as the rules read them, one record of type `LANE` each.

        `stop` is where those have to stop who may not leave by the lane, infinite where it is open; `escape`
        the side on which the road goes on where the lane does not: -1 left, 1 right, 0 for open lanes.
        """
        table = np.zeros(self.num_lanes, LANE)
        is_open = np.array([lane.kind == LaneEnd.OPEN for lane in self.lanes])
        table["centre"], table["half_width"] = self.centre, self.width / 2
        table["start"] = [lane.start for lane in self.lanes]
        table["end"] = [self.length if lane.end is None else lane.end for lane in self.lanes]
        table["stop"] = np.where(is_open, np.inf, table["end"])
        table["limit"] = [lane.speed_limit for lane in self.lanes]
        table["first_cross"], table["last_cross"] = zip(*(lane.crossing for lane in self.lanes), strict=True)
        table["escape"] = [_escape(is_open, lane) for lane in range(self.num_lanes)]
        return table


def _escape(is_open: np.ndarray, lane: int) -> int:
    """Side of the nearest open lane: -1 left, 1 right, 0 if this one is open."""
    nearest = np.flatnonzero(is_open)[np.abs(np.flatnonzero(is_open) - lane).argmin()]
    return int(np.sign(nearest - lane))
