"""Recordings of simulated traffic, whose states obey our integrator."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from worldmodel.scene.kinematics import track_states
from worldmodel.scene.track import Recording, Tracks
from worldmodel.scene.traffic.curve import RoadCurve
from worldmodel.scene.traffic.simulation import Scenario, Simulation

MAX_CURVATURE = 1.0
"""Recorded states turn no tighter; simulated steering jumps, and with it the direction of motion [1/m]."""


def simulate(
    scenario: Scenario, *, num_frames: int, num_scenes: int = 1, seed: int = 0, warm_up: float = 30.0
) -> list[Recording]:
    """Returns recordings of simulated traffic that obey our integrator.

    The simulated positions are kept as they are; heading and speed are those of the way from frame to frame
    (`worldmodel.scene.kinematics.track_states`), whereas the simulated bicycle slips by a few degrees while
    it steers. Its steering angle jumps, so with `Drivers.heading_time` of highway-env's 0.2 s a lane change
    begins with more lateral acceleration than cars have. Populations with slower steering do not, and
    `worldmodel.data.make_consistent` smooths, as it does with measured tracks.

    Args:
        num_frames: recorded of each scene.
        num_scenes: how many recordings; scene `i` is the same whatever their number.
        seed: of the first; they differ by one.
        warm_up: simulated before, so that the traffic settles [s].

    Example:
        >>> from worldmodel.scene.traffic import TrafficRoad
        >>> scenario = Scenario("two_lanes", TrafficRoad.straight(num_lanes=2, length=500.0))
        >>> recording = simulate(scenario, num_frames=20)[0]
        >>> recording.name, recording.num_frames
        ('two_lanes-0', 20)
    """
    simulation = Simulation(scenario, num_scenes=num_scenes)
    seeds = [seed + scene for scene in range(num_scenes)]
    simulation.fill(seeds=seeds)
    for _ in range(round(warm_up / scenario.dt)):
        simulation.step()
    curve, moments = RoadCurve(scenario.road), []
    for _ in range(num_frames):
        state = simulation.state
        pose = torch.stack([state.x, state.y, state.heading], dim=-1).numpy()
        size = torch.stack([simulation.drivers.length, simulation.drivers.width], dim=-1).numpy()
        is_there = (state.valid & ~state.crashed).numpy()
        moments.append((curve.to_world(pose), size, simulation.ids.copy(), is_there))
        simulation.step()
    pose, size, ids, valid = (np.stack(part) for part in zip(*moments, strict=True))  # (T, B, V, ...)
    lane_map = curve.lane_map()
    left, _, right, _ = lane_map.bounds
    coverage = np.tile([left, right], (num_frames, 1))
    return [
        Recording(
            f"{scenario.name}-{number}",
            _tracks(pose[:, b], size[:, b], ids[:, b], valid=valid[:, b], dt=scenario.dt),
            lane_map,
            scenario.dt,
            coverage,
            source="simulated (worldmodel.scene.traffic)",
        )
        for b, number in enumerate(seeds)
    ]


def _tracks(
    pose: Float[np.ndarray, "T V 3"],
    size: Float[np.ndarray, "T V 2"],
    ids: Int[np.ndarray, "T V"],
    *,
    valid: Bool[np.ndarray, "T V"],
    dt: float,
) -> Tracks:
    """Sorts what was in the rows of a simulation by vehicle."""
    T = len(pose)
    frame, row = np.nonzero(valid)
    unique, vehicle = np.unique(ids[frame, row], return_inverse=True)
    there = np.zeros((len(unique), T), dtype=bool)
    there[vehicle, frame] = True
    poses, sizes = np.zeros((len(unique), T, 3)), np.zeros((len(unique), 2))
    poses[vehicle, frame], sizes[vehicle] = pose[frame, row], size[frame, row]
    # Everybody's first frame to the front, the last one repeated: then all are followed together.
    first, num = there.argmax(axis=1), there.sum(axis=1)
    index = np.minimum(first[:, None] + np.arange(T), (first + num - 1)[:, None])
    shifted = np.take_along_axis(poses, index[..., None], axis=1)
    followed = track_states(
        torch.from_numpy(shifted[..., :2]),
        torch.from_numpy(shifted[:, 0, 2]),
        dt,
        max_curvature=MAX_CURVATURE,
    ).numpy()
    back = np.clip(np.arange(T) - first[:, None], 0, T - 1)
    state = np.take_along_axis(followed, back[..., None], axis=1)
    state[~there] = 0.0
    return Tracks(unique, state, sizes, there)
