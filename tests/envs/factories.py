"""Small recordings with traffic made to order, and the actions of their drivers."""

from functools import cache

import numpy as np
import torch

from envs import ReplayEnv, ReplayVectorEnv
from worldmodel.data.synthetic import make_recording
from worldmodel.evaluation.protocol import V1, Episode, Protocol, episodes
from worldmodel.scene import LaneMap, RasterSpec, Recording, Renderer, Tracks, inverse
from worldmodel.scene.road import RoadSpec

SPEC = RasterSpec(height=21, width=8)
ROAD = RoadSpec(ahead=12.0, behind=4.0, aside=6.0)


def make_env(num_envs: int = 4, *, recordings: list[Recording] | None = None, **options) -> ReplayVectorEnv:
    if recordings is None:
        recordings, options["renderers"] = shared()
    found = episodes(recordings, protocol=options.get("protocol", V1))
    options = {"history": 3, "raster_spec": SPEC, "road_spec": ROAD} | options
    return ReplayVectorEnv(recordings, found, num_envs, **options)


def make_single(**options) -> ReplayEnv:
    recordings, renderers = shared()
    found = episodes(recordings)
    options = {"history": 3, "raster_spec": SPEC, "road_spec": ROAD} | options
    return ReplayEnv(recordings, found, renderers=renderers, **options)


@cache
def shared() -> tuple[list[Recording], list[Renderer]]:
    """Two recordings that no test may change, and what draws them."""
    recordings = [make_recording(seed=1), make_recording(seed=2, num_vehicles=5)]
    return recordings, [Renderer(one, SPEC) for one in recordings]


def make_straight(
    vehicles: list[tuple[float, float, float]],
    *,
    num_frames: int = 80,
    length: float = 400.0,
    dt: float = 0.1,
) -> Recording:
    """Cars of 4 m x 2 m at `(x, y, speed)` in frame 0 that keep their speeds; two lanes, 0 <= y <= 8."""
    time = np.arange(num_frames) * dt
    state = np.zeros((len(vehicles), num_frames, 4))
    for row, (x, y, speed) in enumerate(vehicles):
        state[row] = np.stack(
            [x + speed * time, np.full_like(time, y), 0 * time, np.full_like(time, speed)], 1
        )
    tracks = Tracks(
        np.arange(len(vehicles)) + 10,
        state,
        np.tile([4.0, 2.0], (len(vehicles), 1)),
        np.ones((len(vehicles), num_frames), dtype=bool),
    )
    road = LaneMap.straight(length=length, num_lanes=2, lane_width=4.0)
    return Recording("straight", tracks, road, dt, np.tile([0.0, length], (num_frames, 1)))


def drive(
    recording: Recording, action: tuple[float, float], *, protocol: Protocol = V1, vehicle: int = 0
) -> dict:
    """Info at the end of the first episode of `vehicle`, driven with a constant action."""
    found = [one for one in episodes([recording], protocol=protocol) if one.vehicle == vehicle]
    env = ReplayEnv([recording], found, protocol=protocol, history=3, raster_spec=SPEC, road_spec=ROAD)
    observation, info = env.reset(options={"episode": 0})
    done = False
    while not done:
        observation, _, terminated, truncated, info = env.step(np.array(action, dtype=np.float32))
        done = terminated or truncated
    return info | {"terminated": terminated, "state": observation["state"][-1]}


def driver_actions(recording: Recording, episode: Episode) -> np.ndarray:
    """What the recorded driver does from the hand-over on, `(T, 2)`."""
    track = recording.tracks.state[episode.vehicle, episode.start : episode.last + 1]
    return inverse(torch.from_numpy(track), recording.dt).numpy()
