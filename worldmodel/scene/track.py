"""Recorded traffic in SI units: tracks with a valid mask, and a recording of them on a map.

Arrays are NumPy, frozen and masked: where `valid` is false the other fields mean nothing and no code may read
them. This module does not know files (`worldmodel.data`) nor pixels (`worldmodel.scene.raster`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import median_filter

from worldmodel.scene.lane import LaneMap

X, Y, HEADING, SPEED = range(4)
"""Columns of a state."""
LENGTH, WIDTH = range(2)
"""Columns of a size."""


MEDIAN_WINDOW = 9
"""Steps whose median says how a vehicle was moving."""


@dataclass(frozen=True)
class Tracks:
    """States of `V` vehicles over `T` frames.

    Attributes:
        ids: the source's vehicle number, unique here.
        state: box centre `x, y` [m], heading [rad], signed speed [m/s].
        size: length, width [m].
        valid: whether the vehicle was recorded in the frame.
    """

    ids: Int[np.ndarray, " V"]
    state: Float[np.ndarray, "V T 4"]
    size: Float[np.ndarray, "V 2"]
    valid: Bool[np.ndarray, "V T"]

    @property
    def num_vehicles(self) -> int:
        return int(self.valid.shape[0])

    @property
    def num_frames(self) -> int:
        return int(self.valid.shape[1])

    def select(self, vehicles: Sequence[int] | np.ndarray) -> "Tracks":
        """Returns the tracks of the given rows."""
        index = np.asarray(vehicles)
        return Tracks(self.ids[index], self.state[index], self.size[index], self.valid[index])

    def runs(self) -> list[tuple[int, int, int]]:
        """Returns every contiguous stretch as `(row, first frame, last frame + 1)`, by row and time."""
        padded = np.zeros((self.num_vehicles, self.num_frames + 2), dtype=np.int8)
        padded[:, 1:-1] = self.valid
        edges = np.diff(padded, axis=1)
        starts, stops = np.argwhere(edges == 1), np.argwhere(edges == -1)
        return [(int(v), int(a), int(b)) for (v, a), (_, b) in zip(starts, stops, strict=True)]


@dataclass(frozen=True)
class Recording:
    """Traffic on a mapped road, sampled every `dt`.

    Attributes:
        name: short and unique among the recordings used together.
        dt: time between frames [s].
        start: time of frame 0 on the source's clock [s].
        coverage: first and last recorded `x` of each frame [m]; outside, nobody looked.
        source: where it comes from and under which licence, for reports.
    """

    name: str
    tracks: Tracks
    lane_map: LaneMap
    dt: float
    coverage: Float[np.ndarray, "T 2"]
    start: float = 0.0
    source: str = field(default="", compare=False)

    @property
    def num_frames(self) -> int:
        return self.tracks.num_frames

    @property
    def duration(self) -> float:
        """Number of frames times `dt` [s]."""
        return self.num_frames * self.dt

    def crop(self, first: int, last: int) -> "Recording":
        """Returns frames `first` .. `last - 1`, without the vehicles that are not in them."""
        valid = self.tracks.valid[:, first:last]
        tracks = replace(self.tracks, state=self.tracks.state[:, first:last], valid=valid)
        return replace(
            self,
            tracks=tracks.select(np.flatnonzero(valid.any(axis=1))),
            coverage=self.coverage[first:last],
            start=self.start + first * self.dt,
        )

    def mirror(self) -> "Recording":
        """Returns the recording seen in a mirror: left and right swapped."""
        state = self.tracks.state * np.array([1.0, -1.0, -1.0, 1.0])
        return replace(
            self,
            name=f"{self.name}-mirrored",
            tracks=replace(self.tracks, state=state),
            lane_map=self.lane_map.mirror(),
        )


def step_excess(path: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N1 2"]:
    """Returns by how much each displacement of a path differs from the median of those around it [m].

    It is near zero for anything that drives, and the error itself where the recording jumps.
    """
    chords = np.diff(path, axis=0)
    if len(chords) < 3:
        return np.zeros_like(chords)
    return np.asarray(chords - median_filter(chords, size=(MEDIAN_WINDOW, 1), mode="nearest"))
