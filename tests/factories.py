"""Small objects that tests are made of; recorded-looking traffic is `worldmodel.data.make_recording`."""

import numpy as np
import torch
from torch import Tensor

from worldmodel.scene import LaneMap, Recording, Tracks


def make_tracks(
    states: np.ndarray, *, valid: np.ndarray | None = None, size: np.ndarray | None = None
) -> Tracks:
    """Returns tracks of `states` (V, T, 4): ids 100, 101, ...; by default 4.5 m x 1.8 m, always valid."""
    V, T = states.shape[:2]
    return Tracks(
        ids=100 + np.arange(V),
        state=states.astype(np.float64),
        size=np.tile([4.5, 1.8], (V, 1)) if size is None else size,
        valid=np.ones((V, T), dtype=bool) if valid is None else valid,
    )


def make_straight(
    speeds: tuple[float, ...] = (10.0, 12.0, 15.0), *, num_frames: int = 50, dt: float = 0.1
) -> Recording:
    """Returns one car per lane of a straight road at constant speed; car 0 in the leftmost, from x = 10."""
    lane_map = LaneMap.straight(length=300.0, num_lanes=len(speeds))
    time = np.arange(num_frames) * dt
    states = np.zeros((len(speeds), num_frames, 4))
    for car, speed in enumerate(speeds):
        states[car, :, 0] = 10.0 + speed * time
        states[car, :, 1] = (len(speeds) - car - 0.5) * 3.7
        states[car, :, 3] = speed
    return make_recording_of(make_tracks(states), lane_map, dt=dt)


def make_recording_of(tracks: Tracks, lane_map: LaneMap | None = None, *, dt: float = 0.1) -> Recording:
    """Returns a recording of the tracks, covered over 300 m, on three straight lanes by default."""
    return Recording(
        name="made-up",
        tracks=tracks,
        lane_map=LaneMap.straight(length=300.0, num_lanes=3) if lane_map is None else lane_map,
        dt=dt,
        coverage=np.tile([0.0, 300.0], (tracks.num_frames, 1)),
    )


def make_boxes(num: int, *, seed: int = 0, extent: float = 6.0) -> Tensor:
    """Returns random boxes (N, 5), float64, in a square of `extent` [m]."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.tensor([0.0, 0.0, -4.0, 0.5, 0.3], dtype=torch.float64)
    high = torch.tensor([extent, extent, 4.0, 6.0, 3.0], dtype=torch.float64)
    return low + (high - low) * torch.rand(num, 5, generator=generator, dtype=torch.float64)
