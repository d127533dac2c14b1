"""What is wrong with a recording, by name, and what it holds, in one line.

`validate` reports and never repairs: readers refuse, `worldmodel.data.smooth` repairs. `check_consistent`
refuses what has not been repaired.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from worldmodel.scene.geometry import boxes_overlap, shrink
from worldmodel.scene.kinematics import inverse, step, wrap_angle
from worldmodel.scene.track import HEADING, LENGTH, SPEED, WIDTH, Recording, X, step_excess
from worldmodel.scene.units import METRES_PER_FOOT

TELEPORT = 1.0
"""A displacement that differs by more than this from those around it is no motion [m]."""
SIZE_RANGE = ((1.0, 30.0), (0.3, 3.5))
"""Plausible lengths and widths [m]."""
MAX_SPEED = 70.0
"""No vehicle is faster [m/s]."""
SPEED_RATIO = (0.75, 1.33)
"""Speed times time over distance driven may lie in this range."""
MIN_DRIVEN = 5.0
"""Speeds and headings are compared with the motion of vehicles that drive at least this far [m]."""
HEADING_TOLERANCE = 0.35
"""Half of the time a vehicle drives within this of its heading [rad]."""
OFF_MAP = 2.0
"""A centre may be this far outside the mapped road [m]."""
CONSISTENCY = 1e-3
"""How far a recorded step may end from where its action leads [m]."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: `shape`, `time`, `id`, `size`, `nan`, `teleport`, `speed`, `heading`, `overlap` or `off_map`.
        vehicle: id of the vehicle, None where the recording as a whole is meant.
        frame: first frame it shows in, None where it does not depend on the frame.
        message: what was got and what was expected.
    """

    kind: str
    vehicle: int | None
    frame: int | None
    message: str

    def __str__(self) -> str:
        where = "" if self.vehicle is None else f" vehicle {self.vehicle}"
        when = "" if self.frame is None else f" frame {self.frame}"
        return f"{self.kind}:{where}{when}: {self.message}"


@dataclass(frozen=True)
class Summary:
    """What a recording holds.

    Attributes:
        seconds: duration [s].
        vehicle_minutes: time recorded, over all vehicles [min].
        mean_speed: over all recorded states [m/s].
        density: vehicles per kilometre of covered lane [1/km].
        coverage: smallest and largest covered `x` [m].
        mean_coverage: mean length of the covered road [m].
    """

    name: str
    num_vehicles: int
    num_frames: int
    seconds: float
    vehicle_minutes: float
    mean_speed: float
    density: float
    coverage: tuple[float, float]
    mean_coverage: float

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.num_vehicles} vehicles, {self.num_frames} frames, {self.seconds:.1f} s, "
            f"{self.vehicle_minutes:.1f} vehicle-minutes, {self.mean_speed:.1f} m/s, "
            f"{self.density:.1f} vehicles per km and lane, covered x {self.coverage[0]:.0f} to "
            f"{self.coverage[1]:.0f} m, {self.mean_coverage:.0f} m at a time"
        )


def validate(recording: Recording) -> list[Problem]:
    """Returns everything that is wrong with the recording, in the order of the checks; empty if nothing is.

    Arrays that do not fit together end the checks, for the others would not know what to compare.
    """
    problems = list(_shapes(recording))
    if problems:
        return problems
    checks: tuple[Callable[[Recording], Iterator[Problem]], ...]
    checks = (_time, _ids, _sizes, _nans)
    problems = [problem for check in checks for problem in check(recording)]
    if any(problem.kind in ("time", "nan") for problem in problems):
        return problems  # the other checks calculate with these
    checks = (_teleports, _speeds, _headings, _overlaps, _off_map)
    return problems + [problem for check in checks for problem in check(recording)]


def summary(recording: Recording) -> Summary:
    """Returns what the recording holds, for logs and reports."""
    tracks, coverage = recording.tracks, recording.coverage
    speed = tracks.state[..., SPEED][tracks.valid]
    lane_km = _covered_lane(recording).sum() / 1000.0
    return Summary(
        name=recording.name,
        num_vehicles=tracks.num_vehicles,
        num_frames=tracks.num_frames,
        seconds=recording.duration,
        vehicle_minutes=float(tracks.valid.sum()) * recording.dt / 60.0,
        mean_speed=float(speed.mean()) if speed.size else 0.0,
        density=float(tracks.valid.sum() / lane_km) if lane_km > 0 else 0.0,
        coverage=(float(coverage[:, 0].min()), float(coverage[:, 1].max())),
        mean_coverage=float((coverage[:, 1] - coverage[:, 0]).mean()),
    )


def check_consistent(recording: Recording, *, tolerance: float = CONSISTENCY) -> None:
    """Checks that every recorded step is one the integrator can make.

    Raises:
        ValueError: naming the vehicle and frame where it is farthest off.
    """
    state, valid = recording.tracks.state, recording.tracks.valid
    row, frame = np.nonzero(valid[:, :-1] & valid[:, 1:])
    if not len(row):
        return
    pairs = torch.from_numpy(np.stack([state[row, frame], state[row, frame + 1]], axis=1)).double()
    reached = step(pairs[:, 0], inverse(pairs, recording.dt)[:, 0], recording.dt)
    miss = (reached[:, :2] - pairs[:, 1, :2]).norm(dim=-1).numpy()
    worst = int(miss.argmax())
    if not miss[worst] <= tolerance:  # so that NaN is refused, too
        raise ValueError(
            f"recording {recording.name!r} does not obey the integrator: vehicle "
            f"{recording.tracks.ids[row[worst]]} misses frame {frame[worst] + 1} by {miss[worst]:.3f} m, "
            f"expected under {tolerance} m; pass it through make_consistent first"
        )


def misrecorded(recording: Recording, *, margin: float = 0.1, road_margin: float = 0.3) -> tuple[int, ...]:
    """Returns the ids of vehicles whose own recording overlaps another's, or leaves the road.

    Nobody can be judged by driving in their place: the recorded driver would fail too.

    Args:
        margin: taken off every side of both boxes [m].
        road_margin: the centre must be this far inside the road [m].
    """
    tracks = recording.tracks
    rows = {row for _, *pair in _overlapping_pairs(recording, margin) for row in pair}
    row, frame = np.nonzero(tracks.valid)
    if recording.lane_map.lanelets:
        inside = recording.lane_map.edge_distance(tracks.state[row, frame, :2])
        rows |= set(row[inside < road_margin].tolist())
    return tuple(sorted(int(tracks.ids[one]) for one in rows))


def _shapes(recording: Recording) -> Iterator[Problem]:
    tracks = recording.tracks
    if tracks.valid.ndim != 2 or 0 in tracks.valid.shape:
        message = f"valid has shape {tracks.valid.shape}; expected (V, T) with at least one vehicle and frame"
        yield Problem("shape", None, None, message)
        return
    V, T = tracks.valid.shape
    wanted = {"ids": (V,), "state": (V, T, 4), "size": (V, 2)}
    got = {name: getattr(tracks, name).shape for name in wanted} | {"coverage": recording.coverage.shape}
    for name, shape in (wanted | {"coverage": (T, 2)}).items():
        if got[name] != shape:
            message = f"{name} has shape {got[name]}; expected {shape} beside valid of shape {(V, T)}"
            yield Problem("shape", None, None, message)


def _time(recording: Recording) -> Iterator[Problem]:
    if not (np.isfinite(recording.dt) and recording.dt > 0):
        yield Problem("time", None, None, f"dt={recording.dt}; expected a positive number of seconds")
    if not np.isfinite(recording.start):
        yield Problem("time", None, None, f"start={recording.start}; expected a finite number of seconds")


def _ids(recording: Recording) -> Iterator[Problem]:
    ids, counts = np.unique(recording.tracks.ids, return_counts=True)
    for vehicle, count in zip(ids[counts > 1], counts[counts > 1], strict=True):
        message = f"{count} rows have this id; expected one (split reused ids at gaps)"
        yield Problem("id", int(vehicle), None, message)


def _sizes(recording: Recording) -> Iterator[Problem]:
    tracks = recording.tracks
    for column, (low, high), name in zip((LENGTH, WIDTH), SIZE_RANGE, ("length", "width"), strict=True):
        size = tracks.size[:, column]
        for row in np.flatnonzero(~((size >= low) & (size <= high))):
            hint = "; feet?" if low < size[row] * METRES_PER_FOOT < high else ""
            message = f"{name} is {size[row]:.2f} m; expected {low} to {high}{hint}"
            yield Problem("size", int(tracks.ids[row]), None, message)


def _nans(recording: Recording) -> Iterator[Problem]:
    tracks = recording.tracks
    broken = tracks.valid & ~np.isfinite(tracks.state).all(axis=-1)
    for row, frame, count in _first(broken):
        state = tracks.state[row, frame].tolist()
        message = f"state is {state} in {count} valid frames; expected finite numbers, or valid to be false"
        yield Problem("nan", int(tracks.ids[row]), frame, message)
    for frame in np.flatnonzero(~np.isfinite(recording.coverage).all(axis=1))[:1]:
        message = f"coverage is {recording.coverage[frame].tolist()}; expected finite numbers"
        yield Problem("nan", None, int(frame), message)


def _teleports(recording: Recording) -> Iterator[Problem]:
    tracks = recording.tracks
    for row, first, last in tracks.runs():
        excess = np.linalg.norm(step_excess(tracks.state[row, first:last, :2]), axis=1)
        for jump in np.flatnonzero(excess > TELEPORT):
            message = (
                f"its step of {recording.dt:g} s is {excess[jump]:.2f} m unlike those around it; "
                f"expected at most {TELEPORT}"
            )
            yield Problem("teleport", int(tracks.ids[row]), first + int(jump) + 1, message)


def _speeds(recording: Recording) -> Iterator[Problem]:
    tracks = recording.tracks
    speed = np.where(tracks.valid, np.abs(tracks.state[..., SPEED]), 0.0)
    for row, frame, count in _first(speed > MAX_SPEED):
        message = f"speed is {speed[row, frame]:.1f} m/s, too fast in {count} frames; expected {MAX_SPEED}"
        yield Problem("speed", int(tracks.ids[row]), frame, message)
    chord, is_step = _chords(recording)
    driven = (np.linalg.norm(chord, axis=-1) * is_step).sum(axis=1)
    claimed = ((speed[:, 1:] + speed[:, :-1]) / 2 * is_step).sum(axis=1) * recording.dt
    ratio = claimed / np.maximum(driven, 1e-9)
    outside = (ratio < SPEED_RATIO[0]) | (ratio > SPEED_RATIO[1])
    for row in map(int, np.flatnonzero(outside & (np.maximum(driven, claimed) > MIN_DRIVEN))):
        hint = "; speed in ft/s?" if abs(ratio[row] * METRES_PER_FOOT - 1) < 0.15 else ""
        message = (
            f"speeds add up to {claimed[row]:.1f} m, positions to {driven[row]:.1f} m; expected a ratio of "
            f"{SPEED_RATIO[0]} to {SPEED_RATIO[1]}, got {ratio[row]:.2f}{hint}"
        )
        yield Problem("speed", int(tracks.ids[row]), None, message)


def _headings(recording: Recording) -> Iterator[Problem]:
    tracks = recording.tracks
    chord, is_step = _chords(recording)
    length = np.linalg.norm(chord, axis=-1) * is_step
    backwards = np.where(tracks.state[:, 1:, SPEED] < 0, np.pi, 0.0)
    course = np.arctan2(chord[..., 1], chord[..., 0]) + backwards
    off = wrap_angle(torch.from_numpy(course - tracks.state[:, 1:, HEADING])).abs().numpy()
    # Weighed by distance, so that standing still says nothing.
    astray = (length * (off > HEADING_TOLERANCE)).sum(axis=1)
    driven = length.sum(axis=1)
    for row in np.flatnonzero((driven > MIN_DRIVEN) & (astray > driven / 2)):
        got = float(np.median(off[row][length[row] > 0]))
        message = (
            f"drives {got:.2f} rad off its heading for {astray[row]:.1f} of {driven[row]:.1f} m; expected at "
            f"most {HEADING_TOLERANCE} (radians, counter-clockwise from +x?)"
        )
        yield Problem("heading", int(tracks.ids[row]), None, message)


def _overlaps(recording: Recording) -> Iterator[Problem]:
    tracks = recording.tracks
    frames: dict[tuple[int, int], list[int]] = {}
    for frame, a, b in _overlapping_pairs(recording):
        frames.setdefault((a, b), []).append(frame)
    for (a, b), when in sorted(frames.items()):
        message = f"its box overlaps that of vehicle {tracks.ids[b]} in {len(when)} frames; expected none"
        yield Problem("overlap", int(tracks.ids[a]), when[0], message)


def _overlapping_pairs(recording: Recording, margin: float = 0.0) -> list[tuple[int, int, int]]:
    """Returns `(frame, row, row)` of every pair of boxes that overlap with `margin` [m] off every side.

    A sweep along x over all frames at once: sorted by where their circles begin, boxes are compared with
    their first, second, ... successors until no circle reaches that far.
    """
    tracks = recording.tracks
    frame, row = np.nonzero(tracks.valid.T)
    state, size = tracks.state[row, frame], tracks.size[row]
    radius = np.linalg.norm(size, axis=1) / 2
    begin, end = state[:, X] - radius, state[:, X] + radius
    order = np.lexsort((begin, frame))
    frame, row, begin, end = frame[order], row[order], begin[order], end[order]
    boxes = torch.from_numpy(np.concatenate([state[:, :3], size], axis=1)[order])
    first, pairs = np.arange(len(frame)), []
    for apart in range(1, len(frame)):
        first = first[first + apart < len(frame)]
        second = first + apart
        reaches = (frame[second] == frame[first]) & (begin[second] < end[first])
        first, second = first[reaches], second[reaches]
        if not first.size:
            break
        hit = boxes_overlap(shrink(boxes[first], margin), shrink(boxes[second], margin)).numpy()
        pairs += [
            (int(frame[i]), int(min(row[i], row[j])), int(max(row[i], row[j])))
            for i, j in zip(first[hit], second[hit], strict=True)
        ]
    return sorted(pairs)


def _off_map(recording: Recording) -> Iterator[Problem]:
    tracks = recording.tracks
    if not recording.lane_map.lanelets:
        yield Problem("off_map", None, None, "the lane map is empty; expected at least one lanelet")
        return
    row, frame = np.nonzero(tracks.valid)
    points = tracks.state[row, frame, :2]
    outside = ~recording.lane_map.contains(points)
    beyond = np.zeros(tracks.valid.shape)
    beyond[row[outside], frame[outside]] = -recording.lane_map.edge_distance(points[outside])
    for vehicle, when, count in _first(beyond > OFF_MAP):
        message = (
            f"centre up to {beyond[vehicle].max():.1f} m outside the road in {count} frames; "
            f"expected at most {OFF_MAP}"
        )
        yield Problem("off_map", int(tracks.ids[vehicle]), when, message)


def _first(is_bad: np.ndarray) -> list[tuple[int, int, int]]:
    """Returns row, first bad frame and number of bad frames of each row that has any."""
    return [
        (int(row), int(is_bad[row].argmax()), int(is_bad[row].sum()))
        for row in np.flatnonzero(is_bad.any(axis=1))
    ]


def _chords(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Returns displacements `(V, T - 1, 2)`, zero where a frame is not valid, and whether both frames are."""
    valid = recording.tracks.valid
    is_step = valid[:, 1:] & valid[:, :-1]
    position = np.where(valid[..., None], recording.tracks.state[..., :2], 0.0)
    return np.where(is_step[..., None], np.diff(position, axis=1), 0.0), is_step


def _covered_lane(recording: Recording) -> np.ndarray:
    """Returns the length of lane covered in each frame, all lanes added [m]."""
    pieces = []
    for lanelet in recording.lane_map.lanelets:
        centre, _ = lanelet.centre()
        length = np.linalg.norm(np.diff(centre, axis=0), axis=1)
        pieces.append(np.stack([(centre[1:, X] + centre[:-1, X]) / 2, length], axis=1))
    if not pieces:
        return np.zeros(recording.num_frames)
    x, length = np.concatenate(pieces).T
    order = np.argsort(x)
    upto = np.concatenate([[0.0], np.cumsum(length[order])])
    first, last = np.searchsorted(x[order], recording.coverage.T)
    return np.asarray(upto[last] - upto[first])
