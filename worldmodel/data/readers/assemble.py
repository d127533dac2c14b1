"""From rows of measurements, in SI, to tracks: the checks and the folding that every reader needs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldmodel.data.error import RecordingError
from worldmodel.data.readers.table import check
from worldmodel.scene import Tracks

MAX_SPEED = 75.0
"""Nobody drives faster [m/s]."""
LENGTHS = (0.8, 40.0)
"""Vehicles are between these long [m]; the longest in NGSIM are trucks of 29 m."""
WIDTHS = (0.3, 5.0)
"""Vehicles are between these wide [m]."""


@dataclass(frozen=True)
class Rows:
    """`N` measurements of one vehicle at one frame each, in SI.

    Attributes:
        path: the file they come from.
        row: line of each, for messages.
        vehicle: number of the vehicle.
        frame: from 0.
        state: box centre `x, y` [m], heading [rad], speed [m/s], `(N, 4)`.
        size: length, width [m], `(N, 2)`.
    """

    path: Path
    row: np.ndarray
    vehicle: np.ndarray
    frame: np.ndarray
    state: np.ndarray
    size: np.ndarray

    def select(self, index: np.ndarray) -> "Rows":
        """Returns the measurements `index` (mask or numbers)."""
        parts = (self.row, self.vehicle, self.frame, self.state, self.size)
        return Rows(self.path, *(part[index] for part in parts))


def check_plausible(rows: Rows, *, units: str) -> None:
    """Refuses measurements that no vehicle on a road makes; `units` says which units the source should be in.

    Raises:
        RecordingError: naming the first such row.
    """
    for name, column, (low, high) in (
        ("length", rows.size[:, 0], LENGTHS),
        ("width", rows.size[:, 1], WIDTHS),
        ("speed", np.abs(rows.state[:, 3]), (0.0, MAX_SPEED)),
    ):
        reason = f"{name} is {{got}} (SI), expected {low:g} to {high:g}; the source should be in {units}"
        check(rows.path, rows.row, ~((column >= low) & (column <= high)), values=column, reason=reason)
    # One value beyond the limits can be an error; a median beyond common sense is another unit.
    length = float(np.median(rows.size[:, 0]))
    if not 2.5 <= length <= 9.0:
        raise RecordingError(
            rows.path,
            None,
            f"the median length is {length:.2f} m, expected 2.5 to 9 m; the source should be in {units}",
        )


def fold(rows: Rows, num_frames: int) -> Tracks:
    """Returns the measurements as tracks, vehicles in ascending order of number, each with its median size.

    Raises:
        RecordingError: where a vehicle is measured twice in a frame.
    """
    ids, vehicle = np.unique(rows.vehicle, return_inverse=True)
    order = np.lexsort((rows.row, rows.frame, vehicle))
    again = np.zeros(len(order), dtype=bool)
    again[1:] = (np.diff(vehicle[order]) == 0) & (np.diff(rows.frame[order]) == 0)
    check(
        rows.path,
        rows.row[order],
        again,
        values=rows.vehicle[order],
        reason="vehicle {got} appears twice in this frame, expected once; remove one of the lines",
    )
    state = np.zeros((len(ids), num_frames, 4))
    valid = np.zeros((len(ids), num_frames), dtype=bool)
    state[vehicle, rows.frame] = rows.state
    valid[vehicle, rows.frame] = True
    starts = np.flatnonzero(np.diff(vehicle[order], prepend=-1))
    size = np.stack([np.median(part, axis=0) for part in np.split(rows.size[order], starts[1:])])
    return Tracks(ids.astype(np.int64), state, size, valid)


def centre_from_front(front: np.ndarray, heading: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Returns box centres `(N, 2)` given the middle of the front edge."""
    return front - length[:, None] / 2 * np.stack([np.cos(heading), np.sin(heading)], axis=1)
