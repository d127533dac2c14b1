"""From noisy recorded positions to states that a car can drive, so that actions can be read off them.

Differentiating raw tracks twice gives accelerations that no car reaches. Here positions are smoothed run by
run and followed by the kinematic model, so that `inverse` and then `rollout` give the recording back. The
bias that smoothing costs is measured in `docs/log.md`. This module does not know files.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from scipy.signal import savgol_filter

from worldmodel.scene.kinematics import MAX_CURVATURE, track_states
from worldmodel.scene.track import HEADING, Recording, Tracks, step_excess

JUMP = 0.5
"""A displacement that differs from its neighbours' by more than this is a recording error [m]."""
SPLIT = 5.0
"""A jump beyond this is another vehicle, or the same one lost and found: the run is split there [m]."""
SPREAD = 3.0
"""A smaller jump is driven in this time instead of in one step [s]."""
MAX_ACCEL = 8.0
"""A run that still exceeds this, along or across, is smoothed over a window twice as long [m/s^2]."""
ALONG = 16.0
"""The path is also smoothed over this distance driven, which matters where cars crawl [m]."""
SPACING = 0.25
"""Distance between the points at which the path is smoothed [m]."""
FIRST_MOVE = 1.0
"""Displacement that shows the heading at the start of a run [m]."""
BATCH = 256
"""Runs that are followed together."""


def make_consistent(
    recording: Recording, *, window: int = 21, order: int = 2, max_curvature: float = MAX_CURVATURE
) -> Recording:
    """Returns the recording with smoothed states that obey the integrator.

    `inverse`, then `rollout`, give every run back. Run by run:

    1. A jump of more than `SPLIT` metres splits the run (the frame after it becomes invalid); a smaller one
       is spread over `SPREAD` seconds.
    2. Positions pass a Savitzky-Golay filter in time, then another one along the distance driven: a car's
       path is smooth in metres, not in seconds, and while a car crawls noise would look like hard steering.
    3. `track_states` follows them.

    Args:
        recording: positions and, for the driving direction, headings are read; speeds are not.
        window: of the filter in time [frames], odd; shorter runs use the largest odd window that fits.
        order: of the filter's polynomials; runs of at most `order + 1` frames are not smoothed. Inside a run
            2 and 3 are the same filter, at its ends 3 extrapolates noise into hard braking.
        max_curvature: [1/m]
    """
    if window % 2 == 0 or window <= order:
        raise ValueError(f"window={window}: expected an odd number of frames above order={order}")
    tracks = _split_at_jumps(recording.tracks)
    runs = tracks.runs()
    recorded = [tracks.state[row, first:last] for row, first, last in runs]
    paths = [_smooth_path(states[:, :2], window, order=order, dt=recording.dt) for states in recorded]
    headings = [
        _first_heading(path, states[:, HEADING]) for path, states in zip(paths, recorded, strict=True)
    ]
    return _following(replace(recording, tracks=tracks), paths, headings, max_curvature)


def follow(recording: Recording, *, max_curvature: float = MAX_CURVATURE) -> Recording:
    """Returns the recording with states that follow its positions as closely as a car can turn.

    For simulated traffic, whose positions are exact: nothing is smoothed, and only states are new.

    Args:
        recording: with headings that are right at the start of each run.
        max_curvature: [1/m]
    """
    recorded = [recording.tracks.state[row, first:last] for row, first, last in recording.tracks.runs()]
    paths = [states[:, :2].astype(np.float64) for states in recorded]
    headings = [float(states[0, HEADING]) for states in recorded]
    return _following(recording, paths, headings, max_curvature)


def _following(
    recording: Recording, paths: list[np.ndarray], headings: list[float], max_curvature: float
) -> Recording:
    """The recording with the states that follow `paths`, one for each of its runs."""
    tracks = recording.tracks
    state = np.array(tracks.state, dtype=np.float64)
    followed = _follow(paths, headings, dt=recording.dt, max_curvature=max_curvature)
    for (row, first, last), states in zip(tracks.runs(), followed, strict=True):
        state[row, first:last] = states
    return replace(recording, tracks=replace(tracks, state=state))


def _follow(
    paths: list[np.ndarray], headings: list[float], *, dt: float, max_curvature: float
) -> list[np.ndarray]:
    """Returns `track_states` of each path; similar lengths share a batch, padded with the last position."""
    states: list[np.ndarray] = [np.empty(0)] * len(paths)
    by_length = sorted(range(len(paths)), key=lambda index: len(paths[index]))
    for start in range(0, len(paths), BATCH):
        batch = by_length[start : start + BATCH]
        longest = len(paths[batch[-1]])
        padded = [np.pad(paths[i], ((0, longest - len(paths[i])), (0, 0)), mode="edge") for i in batch]
        heading = torch.tensor([headings[i] for i in batch], dtype=torch.float64)
        followed = track_states(
            torch.from_numpy(np.stack(padded)), heading, dt, max_curvature=max_curvature
        ).numpy()
        for i, one in zip(batch, followed, strict=True):
            states[i] = one[: len(paths[i])]
    return states


def _jumps(path: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N1 2"]:
    """Returns by how much each displacement differs from its neighbours' median, zero up to `JUMP` [m]."""
    excess = step_excess(path)
    return np.where(np.linalg.norm(excess, axis=1, keepdims=True) > JUMP, excess, 0.0)


def _split_at_jumps(tracks: Tracks) -> Tracks:
    """Returns the tracks with the frame after each jump beyond `SPLIT` made invalid."""
    valid = tracks.valid.copy()
    for row, first, last in tracks.runs():
        beyond = np.linalg.norm(_jumps(tracks.state[row, first:last, :2]), axis=1) > SPLIT
        valid[row, first + 1 + np.flatnonzero(beyond)] = False
    return replace(tracks, valid=valid)


def _smooth_path(
    path: Float[np.ndarray, "N 2"], window: int, *, order: int, dt: float
) -> Float[np.ndarray, "N 2"]:
    """Returns the path smoothed in time (over longer windows while it is impossible to drive), then along."""
    driven = _spread_jumps(path.astype(np.float64), dt)
    smooth = _filter(driven, window, order)
    while window < len(path) and np.abs(np.diff(smooth, n=2, axis=0)).max(initial=0.0) > MAX_ACCEL * dt**2:
        window = 2 * window + 1
        smooth = _filter(driven, window, order)
    return _smooth_along(smooth, order)


def _spread_jumps(path: Float[np.ndarray, "N 2"], dt: float) -> Float[np.ndarray, "N 2"]:
    """Returns the path with each jump driven in `SPREAD` seconds around it, at a smooth speed."""
    jumps = _jumps(path)
    if not jumps.any():
        return path
    chords = np.diff(path, axis=0) - jumps
    half = max(1, round(SPREAD / dt / 2))
    frames = np.arange(len(chords))
    for at in np.flatnonzero(jumps.any(axis=1)):
        distance = np.abs(frames - at) / half
        weight = np.where(distance < 1, 1 + np.cos(np.pi * distance), 0.0)
        chords += jumps[at] * (weight / weight.sum())[:, None]
    return np.concatenate([path[:1], path[:1] + np.cumsum(chords, axis=0)])


def _smooth_along(path: Float[np.ndarray, "N 2"], order: int) -> Float[np.ndarray, "N 2"]:
    """Returns the path smoothed as a curve, over `ALONG` metres driven however long they took."""
    driven = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    num = int(driven[-1] / SPACING) + 1
    if num < order + 2:
        return path
    grid = np.linspace(0.0, driven[-1], num)
    points = np.stack([np.interp(grid, driven, path[:, axis]) for axis in range(2)], axis=1)
    curve = _filter(points, 2 * round(ALONG / SPACING / 2) + 1, order)
    return np.asarray(CubicSpline(grid, curve)(driven))


def _filter(path: Float[np.ndarray, "N 2"], window: int, order: int) -> Float[np.ndarray, "N 2"]:
    """Returns the path after a Savitzky-Golay filter whose window shrinks to fit."""
    fitting = min(window, len(path) - (len(path) + 1) % 2)
    if fitting <= order + 1:
        return path
    return np.asarray(savgol_filter(path, fitting, order, axis=0))


def _first_heading(path: Float[np.ndarray, "N 2"], recorded: Float[np.ndarray, " N"]) -> float:
    """Returns the heading at the start of a run: that of its first metre, or the recorded one if it has none.

    Whether the car drives forwards or in reverse is for the recorded headings to say, all of them together.
    """
    usual = float(np.arctan2(np.sin(recorded).mean(), np.cos(recorded).mean()))
    away = np.linalg.norm(path - path[0], axis=1) >= FIRST_MOVE
    if not away.any():
        return usual
    dx, dy = path[away.argmax()] - path[0]
    if dx * np.cos(usual) + dy * np.sin(usual) < 0:
        dx, dy = -dx, -dy
    return float(np.arctan2(dy, dx))
