"""From noisy recorded positions to states that a car can drive, so that actions can be read off them.

Differentiating raw tracks twice gives accelerations that no car reaches. Here positions are smoothed run by run and
followed by the kinematic model, so that `inverse` and then `rollout` give the recording back. The bias that smoothing
costs is measured in `docs/log.md`. This module does not know files.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import median_filter
from scipy.signal import savgol_filter

from worldmodel.scene.kinematics import MAX_CURVATURE, track_states
from worldmodel.scene.track import HEADING, Recording, Tracks

JUMP = 0.5
"""A displacement that differs from its neighbours' by more than this is a recording error [m]."""
SPLIT = 5.0
"""A jump beyond this is another vehicle, or the same one lost and found: the run is split there [m]."""
SPREAD = 3.0
"""A smaller jump is driven in this time instead of in one step [s]."""
FIRST_MOVE = 1.0
"""Displacement that shows the heading at the start of a run [m]."""


def make_consistent(
    recording: Recording, *, window: int = 15, order: int = 3, max_curvature: float = MAX_CURVATURE
) -> Recording:
    """Returns the recording with smoothed states that obey the integrator: inverse, then forward, gives them back.

    Run by run: jumps of more than `SPLIT` split the run (the frame after the jump becomes invalid), smaller ones are
    spread over `SPREAD` seconds, positions pass a Savitzky-Golay filter, and `track_states` follows them.

    Args:
        window: of the filter [frames], odd; shorter runs use the largest odd window that fits.
        order: of the filter's polynomial; runs of at most `order + 1` frames are not smoothed.
        max_curvature: [1/m]
    """
    if window % 2 == 0 or window <= order:
        raise ValueError(f"window={window}: expected an odd number of frames above order={order}")
    tracks = _split_at_jumps(recording.tracks)
    runs = tracks.runs()
    paths = [
        _smooth(_spread_jumps(tracks.state[row, first:last, :2], recording.dt), window, order)
        for row, first, last in runs
    ]
    headings = [
        _first_heading(path, tracks.state[row, first:last, HEADING])
        for path, (row, first, last) in zip(paths, runs, strict=True)
    ]
    state = np.array(tracks.state, dtype=np.float64)
    # Similar lengths together: little padding in a batch.
    by_length = sorted(range(len(runs)), key=lambda index: len(paths[index]))
    for batch in np.array_split(np.array(by_length, dtype=np.int64), max(1, len(runs) // 256)):
        followed = _follow(
            [paths[index] for index in batch],
            [headings[index] for index in batch],
            dt=recording.dt,
            max_curvature=max_curvature,
        )
        for index, states in zip(batch, followed, strict=True):
            row, first, last = runs[index]
            state[row, first:last] = states
    return Recording(
        name=recording.name,
        tracks=Tracks(tracks.ids, state, tracks.size, tracks.valid),
        lane_map=recording.lane_map,
        dt=recording.dt,
        coverage=recording.coverage,
        start=recording.start,
        source=recording.source,
    )


def _follow(
    paths: list[Float[np.ndarray, "_ 2"]], headings: list[float], *, dt: float, max_curvature: float
) -> list[Float[np.ndarray, "_ 4"]]:
    """Returns `track_states` of each path, computed in one batch padded with each path's last position."""
    if not paths:
        return []
    longest = max(len(path) for path in paths)
    padded = np.stack([np.pad(path, ((0, longest - len(path)), (0, 0)), mode="edge") for path in paths])
    states = track_states(
        torch.from_numpy(padded),
        torch.tensor(headings, dtype=torch.float64),
        dt,
        max_curvature=max_curvature,
    ).numpy()
    return [states[index, : len(path)] for index, path in enumerate(paths)]


def _jumps(path: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "_ 2"]:
    """Returns by how much each displacement differs from the median of its neighbours', zero within `JUMP` [m]."""
    chords = np.diff(path, axis=0)
    if len(chords) < 3:
        return np.zeros_like(chords)
    excess = chords - median_filter(chords, size=(9, 1), mode="nearest")
    return np.where(np.linalg.norm(excess, axis=1, keepdims=True) > JUMP, excess, 0.0)


def _split_at_jumps(tracks: Tracks) -> Tracks:
    """Returns the tracks with the frame after each jump beyond `SPLIT` made invalid."""
    valid = tracks.valid.copy()
    for row, first, last in tracks.runs():
        beyond = np.linalg.norm(_jumps(tracks.state[row, first:last, :2]), axis=1) > SPLIT
        valid[row, first + 1 + np.flatnonzero(beyond)] = False
    return Tracks(tracks.ids, tracks.state, tracks.size, valid)


def _spread_jumps(path: Float[np.ndarray, "N 2"], dt: float) -> Float[np.ndarray, "N 2"]:
    """Returns the path with each jump driven in `SPREAD` seconds, half of it before, with a smooth change of speed."""
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


def _smooth(path: Float[np.ndarray, "N 2"], window: int, order: int) -> Float[np.ndarray, "N 2"]:
    fitting = min(window, len(path) - (len(path) + 1) % 2)
    if fitting <= order + 1:
        return path.astype(np.float64)
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
