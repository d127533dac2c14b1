"""Recordings of highway-env's scenes: everybody drives for himself, until somebody crashes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from envs._highway import DT, Moment, Scenario, Simulation
from envs._highway_road import HighwayRoad
from worldmodel.data.smooth import follow
from worldmodel.scene import SPEED, Recording, Tracks

NUM_SEEDS = 2**31 - 1
"""Of scenes to choose from; what replaces an unusable scene has a seed beyond."""
ATTEMPTS = 50
"""An unusable scene is replaced by another so many times at most."""
SHORTEST = 5.0
"""A recorded scene that ends sooner is unusable [s]."""
REVERSE = -0.5
"""A recorded scene ends before anybody drives backwards faster than this [m/s]."""
MAX_OUTSIDE = 2.0
"""Vehicles farther outside the map than this are not recorded [m]."""
MAX_CURVATURE = 1.0
"""Recorded states turn no tighter; highway-env's steering angle jumps, and with it the velocity [1/m]."""


def recorded(
    moments: Sequence[Moment], road: HighwayRoad, *, name: str = "highway", source: str = ""
) -> Recording:
    """Returns the moments as a recording, states as highway-env has them (not those of our integrator)."""
    count = 1 + max(int(one.number.max()) for one in moments)
    state, size = np.zeros((count, len(moments), 4)), np.ones((count, 2))
    valid = np.zeros((count, len(moments)), dtype=bool)
    for frame, one in enumerate(moments):
        state[one.number, frame], size[one.number] = one.state, one.size
        valid[one.number, frame] = True
    left, _, right, _ = road.lane_map.bounds
    coverage = np.tile([left, right], (len(moments), 1))
    tracks = Tracks(np.arange(count), state, size, valid)
    return Recording(name, tracks, road.lane_map, DT, coverage, source=source)


def seeds_of(seed: int) -> range:
    """Returns the seeds of a scene and of those that replace it while they are unusable."""
    return range(seed, seed + ATTEMPTS * NUM_SEEDS, NUM_SEEDS)


def simulate(
    *,
    seed: int,
    num_scenes: int = 1,
    scenario: str = "highway",
    config: Mapping[str, Any] | None = None,
    duration: float = 22.0,
) -> Iterator[Recording]:
    """Yields the scenes of consecutive seeds, everybody driving for himself, with states of our integrator.

    Positions are highway-env's, but for centimetres where its steering jumps; speed and heading are those of
    the chord that led to each frame, so that what a driver decides at a frame shows in the recorded action of
    the next. A recording ends before the first crash, after which highway-env pushes cars about, and before
    anybody drives backwards, as its drivers do when they are stuck. Vehicles that leave the map are gone.

    Args:
        seed: of the first scene.
        num_scenes: how many.
        scenario: one of `SCENARIOS`.
        config: what differs from highway-env's configuration.
        duration: [s]

    Raises:
        ValueError: no scene like one of them lasts for `SHORTEST` or the whole duration.
    """
    chosen, simulation = Scenario(scenario, config or {}), Simulation()
    for number in range(seed, seed + num_scenes):
        yield _recorded_scene(simulation, chosen, number, duration=duration)


def _recorded_scene(simulation: Simulation, scenario: Scenario, seed: int, *, duration: float) -> Recording:
    for attempt in seeds_of(seed):
        moments = _undisturbed(simulation, scenario, attempt, num_frames=round(duration / DT))
        if len(moments) >= round(min(duration, SHORTEST) / DT):
            name = f"{scenario.name}-{seed:06d}"
            found = recorded(moments, simulation.road, name=name, source=scenario.describe(attempt))
            return follow(_on_map(found), max_curvature=MAX_CURVATURE)
    raise ValueError(
        f"{ATTEMPTS} scenes like {seed} of {scenario} end within {SHORTEST} s, because somebody crashes or "
        "drives backwards; choose less dense traffic"
    )


def _undisturbed(simulation: Simulation, scenario: Scenario, seed: int, *, num_frames: int) -> list[Moment]:
    """The frames of a scene before anybody crashes or drives backwards."""
    simulation.start(scenario, seed=seed)
    moments: list[Moment] = []
    while len(moments) < num_frames:
        now = simulation.moment()
        if now.crashed.any() or (now.state[:, SPEED] < REVERSE).any():
            break
        moments.append(now)
        simulation.step({})
    return moments


def _on_map(recording: Recording) -> Recording:
    """The recording without what is farther outside the map than `MAX_OUTSIDE`."""
    tracks, valid = recording.tracks, recording.tracks.valid.copy()
    row, frame = np.nonzero(valid)
    outside = recording.lane_map.edge_distance(tracks.state[row, frame, :2]) < -MAX_OUTSIDE
    valid[row[outside], frame[outside]] = False
    return replace(recording, tracks=replace(tracks, valid=valid))
