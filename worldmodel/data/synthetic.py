"""Small seeded recordings of made-up traffic, for tests and examples.

Every vehicle keeps to its slot of a moving pattern, half a slot apart in neighbouring lanes, and sways about
it, so that nobody ever overlaps however long the recording lasts; the states obey
`worldmodel.scene.kinematics`.
"""

import math

import numpy as np

from worldmodel.scene import LaneMap, Recording, Tracks

SLOT = 30.0
"""Distance between vehicles of a lane [m]."""
SWAY = 2.0
"""How far a vehicle strays from its place in the pattern, at most [m]."""
WOBBLE = 0.15
"""How far a vehicle strays from its lane's centre, at most [m]."""
CHANGE_TIME = 3.0
"""Duration of the lane change [s]; shorter recordings have none."""
MARGIN = 40.0
"""Road before the last and after the first vehicle [m]."""
FIRST_ID = 100
"""Vehicle row `i` has the id `FIRST_ID + i`."""


def make_recording(
    seed: int = 0,
    num_vehicles: int = 8,
    num_frames: int = 100,
    *,
    num_lanes: int = 3,
    lane_width: float = 3.7,
    speed: float = 15.0,
    dt: float = 0.1,
    window: tuple[float, float] | None = None,
    name: str | None = None,
) -> Recording:
    """Returns straight-road traffic without overlaps; vehicle 0 moves from the leftmost lane to the next.

    Vehicles fill the lanes from left to right, slot by slot from the front. All are recorded in every frame
    unless a `window` is given.

    Args:
        speed: mean speed of the traffic [m/s].
        dt: [s]
        window: first and last covered `x` [m]; vehicles are recorded only while their centre is in
            it, as where a camera sees only a stretch, and not at all if it never is.
        name: of the recording; `synthetic-<seed>` if not given.

    Raises:
        ValueError: where a count is below one or nobody is ever in the window.
    """
    for what, count in (("num_vehicles", num_vehicles), ("num_frames", num_frames), ("num_lanes", num_lanes)):
        if count < 1:
            raise ValueError(f"{what}={count}, expected at least 1")
    rng = np.random.default_rng(seed)
    slots = math.ceil(num_vehicles / num_lanes)
    road = MARGIN * 2 + slots * SLOT + speed * num_frames * dt
    size = np.stack([rng.uniform(4.0, 5.5, num_vehicles), rng.uniform(1.7, 2.1, num_vehicles)], axis=1)
    time = np.arange(num_frames) * dt
    lane = np.arange(num_vehicles) % num_lanes
    slot = np.arange(num_vehicles) // num_lanes
    first_x = MARGIN + (slots - 0.5 * (lane % 2) - slot) * SLOT
    x = first_x[:, None] + speed * time + _sway(rng, num_vehicles, time, SWAY)  # (V, T)
    y = ((num_lanes - lane - 0.5) * lane_width)[:, None] + _sway(rng, num_vehicles, time, WOBBLE)
    if num_lanes > 1 and time[-1] > CHANGE_TIME:
        y[0] -= lane_width * _smooth_step((time - (time[-1] - CHANGE_TIME) / 2) / CHANGE_TIME)
    coverage = np.tile(np.array(window or (0.0, road)), (num_frames, 1))
    valid = (x >= coverage[:, 0]) & (x <= coverage[:, 1])
    tracks = Tracks(FIRST_ID + np.arange(num_vehicles), _states(x, y, dt), size, valid)
    present = np.flatnonzero(valid.any(axis=1))
    if not len(present):
        raise ValueError(f"nobody is ever in window={window}; the road is {road:.0f} m long")
    lane_map = LaneMap.straight(length=road, num_lanes=num_lanes, lane_width=lane_width)
    source = "made up (worldmodel.data.synthetic)"
    return Recording(
        name or f"synthetic-{seed}", tracks.select(present), lane_map, dt, coverage, source=source
    )


def _sway(rng: np.random.Generator, num: int, time: np.ndarray, amplitude: float) -> np.ndarray:
    """Returns one slow oscillation per vehicle `(V, T)`, within `amplitude` [m]."""
    period = rng.uniform(8.0, 16.0, (num, 1))
    phase = rng.uniform(0.0, 2 * math.pi, (num, 1))
    return rng.uniform(0.3, 1.0, (num, 1)) * amplitude * np.sin(2 * math.pi * time / period + phase)


def _smooth_step(part: np.ndarray) -> np.ndarray:
    """Returns 0 before `part` = 0, 1 after 1, and a quintic with smooth curvature between."""
    part = part.clip(0.0, 1.0)
    return part**3 * (10.0 - 15.0 * part + 6.0 * part**2)


def _states(x: np.ndarray, y: np.ndarray, dt: float) -> np.ndarray:
    """Returns states `(V, T, 4)` whose speed and heading are those of the chord that led to each frame."""
    if x.shape[1] < 2:
        return np.stack([x, y, np.zeros_like(x), np.zeros_like(x)], axis=-1)
    dx, dy = np.diff(x, axis=1), np.diff(y, axis=1)
    chord = np.stack([np.arctan2(dy, dx), np.hypot(dx, dy) / dt], axis=-1)
    return np.concatenate([np.stack([x, y], axis=-1), np.concatenate([chord[:, :1], chord], axis=1)], axis=-1)
