"""From a reader's frame and clock to ours: resampling in time, turning the axes, parting carriageways."""

import math
from dataclasses import replace

import numpy as np
import shapely
from jaxtyping import Float

from worldmodel.scene import HEADING, SPEED, Lanelet, LaneMap, Recording

NEAR = 5.0
"""Lanelets farther than this from every vehicle of a carriageway are not its own [m]."""
MISTIMED = 0.1
"""A first displacement this far from what the speeds say began at another time than its frame's [m]."""


def resample(recording: Recording, dt: float) -> Recording:
    """Returns the recording every `dt` [s], each contiguous run interpolated on its own.

    Positions follow the cubic Hermite spline through positions and velocities, headings turn the shorter way,
    and the speed is that of the spline along the heading. Frames that coincide with a recorded one stay as
    they are.
    """
    old, ratio = recording.tracks, dt / recording.dt
    num_frames = math.floor((recording.num_frames - 1) / ratio + 1e-9) + 1
    state = np.zeros((old.num_vehicles, num_frames, 4))
    valid = np.zeros((old.num_vehicles, num_frames), dtype=bool)
    for row, first, last in old.runs():
        frames = np.arange(math.ceil(first / ratio - 1e-9), math.floor((last - 1) / ratio + 1e-9) + 1)
        state[row, frames] = _interpolate(old.state[row, first:last], frames * ratio - first, dt=recording.dt)
        valid[row, frames] = True
    nearest = np.minimum(np.round(np.arange(num_frames) * ratio).astype(int), recording.num_frames - 1)
    tracks = replace(old, state=state, valid=valid)
    return replace(recording, tracks=tracks, dt=dt, coverage=recording.coverage[nearest])


def drop_mistimed_starts(recording: Recording) -> Recording:
    """Returns the recording without first states that were seen later than their frame says.

    Windows cut out of denser recordings may round the time at which a vehicle entered: its first displacement
    is then any part of a step. Interpolated as if it were a whole one, the vehicle would start with a halt.
    Runs of two states are left alone: nothing says which is right.
    """
    tracks, dt = recording.tracks, recording.dt
    valid = tracks.valid.copy()
    for row, first, last in tracks.runs():
        if last - first < 3:
            continue
        a, b = tracks.state[row, first], tracks.state[row, first + 1]
        expected = abs(a[SPEED] + b[SPEED]) / 2 * dt
        valid[row, first] = abs(np.hypot(*(b - a)[:2]) - expected) <= MISTIMED
    return replace(recording, tracks=replace(tracks, valid=valid))


def rotate(recording: Recording, angle: float) -> Recording:
    """Returns the recording with its axes turned, so that what pointed along `angle` [rad] points along `+x`.

    The coverage is taken anew from where vehicles were seen.
    """
    state = recording.tracks.state.copy()
    state[..., :2] = turn_points(state[..., :2], -angle)
    state[..., HEADING] = wrap(state[..., HEADING] - angle)
    lanelets = tuple(
        Lanelet(one.id, turn_points(one.left, -angle), turn_points(one.right, -angle))
        for one in recording.lane_map.lanelets
    )
    tracks = replace(recording.tracks, state=state)
    coverage = seen_stretch(state[tracks.valid][:, 0], tracks.num_frames)
    return replace(recording, tracks=tracks, lane_map=LaneMap(lanelets), coverage=coverage)


def carriageways(recording: Recording) -> tuple[Recording, ...]:
    """Returns one recording per driving direction, each turned so that its vehicles drive along `+x`.

    Vehicles, and the lanelets near them, belong to the direction they agree with; the names get `-1`, `-2`. A
    recording with one direction only is turned and keeps its name.
    """
    heading = recording.tracks.state[..., HEADING]
    moving = recording.tracks.valid & (recording.tracks.state[..., SPEED] > 1.0)
    axis = float(np.angle(np.exp(2j * heading[moving]).mean())) / 2
    along = np.where(moving, np.cos(heading - axis), 0.0).sum(axis=1) >= 0
    parts = []
    for vehicles, direction in ((along, axis), (~along, axis + math.pi)):
        if vehicles.any():
            tracks = recording.tracks.select(np.flatnonzero(vehicles))
            driven = shapely.MultiPoint(tracks.state[tracks.valid][::20, :2])
            lanelets = tuple(
                one
                for one in recording.lane_map.lanelets
                if _agrees(one, direction) and _ring(one).distance(driven) < NEAR
            )
            part = replace(recording, tracks=tracks, lane_map=LaneMap(lanelets))
            parts.append(rotate(part, direction))
    if len(parts) == 1:
        return tuple(parts)
    return tuple(replace(part, name=f"{part.name}-{number}") for number, part in enumerate(parts, start=1))


def seen_stretch(x: Float[np.ndarray, " N"], num_frames: int) -> Float[np.ndarray, "T 2"]:
    """Returns between which `x` vehicles were seen [m], the same for all frames: the camera stands still."""
    return np.tile(np.percentile(x, [0.1, 99.9]), (num_frames, 1))


def turn_points(points: np.ndarray, angle: float) -> np.ndarray:
    """Returns points `(..., 2)` turned about the origin by `angle` [rad]."""
    cos, sin = math.cos(angle), math.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def wrap(angle: np.ndarray) -> np.ndarray:
    """Returns `angle` [rad] wrapped into [-pi, pi)."""
    return (angle + math.pi) % (2 * math.pi) - math.pi


def _agrees(lanelet: Lanelet, direction: float) -> bool:
    chord = (lanelet.left[-1] + lanelet.right[-1]) - (lanelet.left[0] + lanelet.right[0])
    return bool(chord[0] * math.cos(direction) + chord[1] * math.sin(direction) > 0)


def _ring(lanelet: Lanelet) -> shapely.Geometry:
    return shapely.Polygon(np.concatenate([lanelet.left, lanelet.right[::-1]])).buffer(0)


def _interpolate(run: np.ndarray, at: np.ndarray, *, dt: float) -> np.ndarray:
    """Returns the states of a run at the fractional frames `at`."""
    left = np.minimum(np.floor(at + 1e-9).astype(int), max(len(run) - 2, 0))
    u = (at - left)[:, None]
    a, b = run[left], run[np.minimum(left + 1, len(run) - 1)]
    va, vb = _velocity(a) * dt, _velocity(b) * dt
    pa, pb = a[:, :2], b[:, :2]
    position = (
        (2 * u**3 - 3 * u**2 + 1) * pa
        + (u**3 - 2 * u**2 + u) * va
        + (3 * u**2 - 2 * u**3) * pb
        + (u**3 - u**2) * vb
    )
    slope = (6 * u**2 - 6 * u) * (pa - pb) + (3 * u**2 - 4 * u + 1) * va + (3 * u**2 - 2 * u) * vb
    heading = wrap(a[:, 2] + u[:, 0] * wrap(b[:, 2] - a[:, 2]))
    speed = (slope[:, 0] * np.cos(heading) + slope[:, 1] * np.sin(heading)) / dt
    found = np.column_stack([position, heading, speed])
    on_frame = np.abs(at - np.round(at)) < 1e-9
    found[on_frame] = run[np.round(at[on_frame]).astype(int)]
    return found


def _velocity(state: np.ndarray) -> np.ndarray:
    return state[:, 3:] * np.stack([np.cos(state[:, 2]), np.sin(state[:, 2])], axis=1)
