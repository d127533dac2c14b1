"""Would MOBIL have changed lanes? Asked where recorded drivers did, and where they did not.

IDM and MOBIL as in `worldmodel.scene.traffic.rule`, for one driver whose parameters everybody shares, on the
lanes of any recording. Says how far the rule explains recorded lane changes; exits and ends of lanes, which
are other reasons, it does not know.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from worldmodel.evaluation.lane_place import Lanes, place
from worldmodel.evaluation.realism import lane_changes
from worldmodel.scene import HEADING, LENGTH, SPEED, Recording, X, Y
from worldmodel.scene.traffic import DriverType
from worldmodel.scene.traffic.rule import SMALLEST

DECISION = 2.0
"""Before the border is crossed, at which a change is judged [s]."""
QUIET = 4.0
"""Whoever changes lanes within this time is not asked whether he would rather stay [s]."""
EVERY = 1.0
"""Between the moments at which the others are asked [s]; MOBIL's own."""


@dataclass(frozen=True)
class Motives:
    """What MOBIL says of recorded drivers.

    Attributes:
        changed: of each lane change, whether it would have made it.
        stayed: of each driver, second and neighbouring lane without one, whether it would have gone there.
    """

    changed: Bool[np.ndarray, " C"]
    stayed: Bool[np.ndarray, " N"]


def motives(recording: Recording, driver: DriverType) -> Motives:
    """Returns what MOBIL says with the means of `driver`."""
    lanes = Lanes.of(recording.lane_map)
    placed = place(recording, lanes)
    changes = lane_changes(placed, recording.dt)
    lead, quiet = round(DECISION / recording.dt), round(QUIET / recording.dt)
    start = np.maximum(changes.row - lead, 0)
    known = (placed.vehicle[start] == placed.vehicle[changes.row]) & (
        placed.frame[changes.row] - placed.frame[start] == lead
    )
    is_asked = placed.frame % round(EVERY / recording.dt) == 0
    for row in changes.row.tolist():
        apart = np.abs(placed.frame - placed.frame[row]) > quiet
        is_asked &= apart | (placed.vehicle != placed.vehicle[row])
    row = np.flatnonzero(is_asked)
    beside, side = np.concatenate([row, row]), np.repeat([1.0, -1.0], len(row))
    there = _lane_beside(recording, lanes, placed.vehicle[beside], placed.frame[beside], side)
    is_lane = there >= 0

    lane_of = np.full(recording.tracks.valid.shape, -1)
    lane_of[placed.vehicle, placed.frame] = placed.lane

    def judged(rows: np.ndarray, target: np.ndarray) -> np.ndarray:
        found = []
        for vehicle, frame, to in zip(placed.vehicle[rows], placed.frame[rows], target, strict=True):
            moment = _Moment(recording.tracks.state[:, frame], recording.tracks.size, lane_of[:, frame])
            found.append(_would(moment, driver, int(vehicle), int(to)))
        return np.array(found, dtype=bool)

    return Motives(
        judged(start[known], placed.lane[changes.row[known]]), judged(beside[is_lane], there[is_lane])
    )


def idm(driver: DriverType, speed: float, closing: float, *, distance: float, body: float) -> float:
    """Returns the acceleration of the mean driver [m/s^2].

    Args:
        speed: his own [m/s].
        closing: by how much he is faster than his leader [m/s].
        distance: from centre to centre; infinite where nobody is ahead [m].
        body: half of both lengths [m].
    """
    accel = driver.accel.mean
    wanted = driver.gap.mean + body + speed * driver.headway.mean
    wanted += speed * closing / (2 * math.sqrt(accel * driver.decel.mean))
    free = (max(speed, 0.0) / driver.desired_speed.mean) ** driver.delta.mean
    return accel * (1.0 - free - (wanted / max(distance, SMALLEST)) ** 2)


@dataclass(frozen=True)
class _Moment:
    """Everybody's state `x, y, heading, speed`, size, and lane (-1: not there)."""

    state: Float[np.ndarray, "V 4"]
    size: Float[np.ndarray, "V 2"]
    lane: Int[np.ndarray, " V"]


def _lane_beside(
    recording: Recording, lanes: Lanes, vehicle: np.ndarray, frame: np.ndarray, side: np.ndarray
) -> Int[np.ndarray, " N"]:
    """Returns the lane to the left (1) or right (-1) of each vehicle's; -1 where there is none."""
    point = recording.tracks.state[vehicle, frame][:, [X, Y]]
    own = lanes.nearest(point)
    normal = np.stack([-np.sin(lanes.heading[own]), np.cos(lanes.heading[own])], axis=1)
    aim = lanes.point[own] + normal * (2 * lanes.half_width[own] * side)[:, None]
    found = lanes.nearest(aim)
    near = np.linalg.norm(lanes.point[found] - aim, axis=1) < lanes.half_width[own]
    return np.where(near & (lanes.lane[found] != lanes.lane[own]), lanes.lane[found], -1)


def _would(moment: _Moment, driver: DriverType, vehicle: int, target: int) -> bool:
    """MOBIL: safe for the new follower and for oneself, and worth it."""
    heading, speed = moment.state[vehicle, HEADING], moment.state[:, SPEED]
    along = (moment.state[:, :2] - moment.state[vehicle, :2]) @ [math.cos(heading), math.sin(heading)]

    def neighbours(lane: int) -> tuple[int | None, int | None]:
        on = np.flatnonzero(moment.lane == lane)
        on = on[on != vehicle]
        front, rear = on[along[on] >= 0], on[along[on] < 0]
        ahead = int(front[along[front].argmin()]) if len(front) else None
        return ahead, int(rear[along[rear].argmax()]) if len(rear) else None

    def accel(who: int | None, front: int | None) -> float:
        if who is None:
            return 0.0
        if front is None:
            return idm(driver, float(speed[who]), 0.0, distance=math.inf, body=0.0)
        body = float(moment.size[who, LENGTH] + moment.size[front, LENGTH]) / 2
        closing, distance = float(speed[who] - speed[front]), float(along[front] - along[who])
        return idm(driver, float(speed[who]), closing, distance=distance, body=body)

    (front, rear), (old_front, old_rear) = neighbours(target), neighbours(int(moment.lane[vehicle]))
    rear_then, then, now = accel(rear, vehicle), accel(vehicle, front), accel(vehicle, old_front)
    if rear_then < -driver.safe_decel.mean or then < -driver.own_decel.mean:
        return False
    others = rear_then - accel(rear, front) + accel(old_rear, old_front) - accel(old_rear, vehicle)
    return then - now + driver.politeness.mean * others >= driver.min_gain.mean
