"""NGSIM freeway recordings: the original text of 18 columns and the data portal's CSV of 25.

Source: feet, feet/s, milliseconds since 1970, every 0.1 s. `Local_X` grows to the right from the road's left
edge, `Local_Y` along the driving direction, both of the middle of the front edge; there is no heading. Ours:
`x = Local_Y`, `y = -Local_X`, in metres, of the box centre; headings are taken from the path.

Known faults, and what becomes of them: a vehicle number is used again for other vehicles, in the next period
as within one (numbers are split at gaps and at changes of `Total_Frames`, and made unique); lines are
repeated (the first counts); the portal mixes sites, periods and order. Arterial sites (Lankershim, Peachtree)
have crossings and are refused.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from worldmodel.data.error import RecordingError
from worldmodel.data.readers.assemble import Rows, centre_from_front, check_plausible, fold
from worldmodel.data.readers.table import (
    Columns,
    check,
    first_line,
    read_csv,
    read_header,
    read_numbers,
    stack_chunks,
)
from worldmodel.data.readers.transform import seen_stretch
from worldmodel.scene import Lanelet, LaneMap, Recording
from worldmodel.scene.units import METRES_PER_FOOT, SECONDS_PER_MILLISECOND

TEXT_COLUMNS = (
    (
        "Vehicle_ID Frame_ID Total_Frames Global_Time Local_X Local_Y Global_X Global_Y v_Length v_Width"
        " v_Class v_Vel v_Acc Lane_ID Preceding Following Space_Headway Time_Headway"
    )
    .lower()
    .split()
)
NEEDED = [
    "vehicle_id",
    "frame_id",
    "total_frames",
    "global_time",
    "local_x",
    "local_y",
    "v_length",
    "v_width",
    "v_vel",
    "lane_id",
]
ARTERIAL_COLUMNS = 24
FREEWAYS = ("i-80", "us-101")
STEP_MS = 100
EPOCH_MS = (0.9e12, 2.5e12)
"""Milliseconds since 1970 of the years 1998 to 2049."""
SAME_CLOCK_MS = 60_000
"""Rows belong to one period if the times of their frame 0 differ by less."""
SOURCE = "NGSIM (FHWA, US Department of Transportation), CC BY-SA 3.0 / 4.0"
LANE_WIDTH = 12 * METRES_PER_FOOT
HEADING_FRAMES = 5
"""The heading is that of the chord from so many frames before to so many after."""
HEADING_CHORD = 1.0
"""Shorter chords say nothing about the heading [m]."""
REUSED = 100_000
"""The k-th further vehicle under a number has `k * REUSED` added to it."""
PERIOD = 10_000_000
"""Vehicles of the k-th further period have `k * PERIOD` added to their number."""

_log = logging.getLogger(__name__)


def read_ngsim(
    path: str | Path,
    *,
    location: str | None = None,
    lane_map: LaneMap | None = None,
    piece: float = 180.0,
) -> tuple[Recording, ...]:
    """Returns the recordings in a freeway file, period by period, in pieces of at most `piece` seconds.

    They are named `<location>-<period>-<piece>`, counted from 1. Vehicle numbers are unique over all of them.

    Args:
        location: the only site to read, `i-80` or `us-101`; all in the file if not given. The text layout
            does not say where it was recorded, so there it is only a name.
        lane_map: the road, in our axes; if not given, straight lanes are laid through the medians of
            `Lane_ID`.
        piece: [s]; a whole period of 15 minutes as one recording takes a gigabyte.

    Raises:
        RecordingError: naming file and row.
    """
    path = Path(path)
    row, columns = _read(path, location)
    _check(path, row, columns)
    recordings: list[Recording] = []
    for number, (name, chosen) in enumerate(_periods(columns)):
        part = {name: column[chosen] for name, column in columns.items()}
        rows, lane = _rows(path, row[chosen], part, offset=number * PERIOD)
        road = lane_map or _straight_road(rows, lane)
        start = float(part["global_time"].min()) * SECONDS_PER_MILLISECOND
        recordings += _pieces(name, rows, road, start=start, piece=piece)
    return tuple(recordings)


def _read(path: Path, location: str | None) -> tuple[np.ndarray, Columns]:
    """Returns line numbers and the needed columns, `location` among them."""
    line = first_line(path)
    if any(character.isalpha() for character in line.replace("e", "").replace("E", "")):
        return _read_portal(path, location)
    fields = len(line.replace(",", " ").split())
    if fields == ARTERIAL_COLUMNS:
        raise RecordingError(
            path, 1, f"{fields} columns, the arterial layout; expected a freeway's 18: use I-80 or US-101"
        )
    if fields != len(TEXT_COLUMNS):
        raise RecordingError(
            path, 1, f"{fields} columns, expected the freeway layout's {len(TEXT_COLUMNS)} or a header"
        )
    chunks = (
        (first, {name: columns[name] for name in NEEDED})
        for first, columns in read_numbers(path, TEXT_COLUMNS)
    )
    row, columns = stack_chunks(chunks)
    columns["location"] = np.full(len(row), location or path.stem)
    return row, columns


def _read_portal(path: Path, location: str | None) -> tuple[np.ndarray, Columns]:
    spelling = {name.lower(): name for name in read_header(path)}
    if missing := [name for name in (*NEEDED, "location") if name not in spelling]:
        raise RecordingError(
            path, 1, f"no column {missing[0]!r}, expected the portal's 25 columns; is it another format?"
        )
    numbers = [spelling[name] for name in NEEDED]

    def chunks() -> Iterator[tuple[int, Columns]]:
        for first, columns in read_csv(path, numbers, texts=(spelling["location"],)):
            found = {name.lower(): column for name, column in columns.items()}
            found["location"] = np.char.lower(found["location"].astype(str))
            found["row"] = first + np.arange(len(found["location"]))
            keep = found["location"] == location if location else slice(None)
            yield first, {name: column[keep] for name, column in found.items()}

    _, columns = stack_chunks(chunks())
    row = columns.pop("row")
    if not len(row):
        raise RecordingError(path, None, f"no row of location {location!r}; name one that the file holds")
    other = np.isin(columns["location"], FREEWAYS, invert=True)
    if other.any():
        first = int(np.argmax(other))
        raise RecordingError(
            path,
            int(row[first]),
            f"location {str(columns['location'][first])!r}, expected {' or '.join(FREEWAYS)}; arterial sites"
            " are not read: pass location= to leave them out",
        )
    return row, columns


def _check(path: Path, row: np.ndarray, columns: Columns) -> None:
    time = columns["global_time"]
    reason = "Global_Time is {got}, expected milliseconds since 1970 (13 digits); restore the lost digits"
    check(path, row, (time < EPOCH_MS[0]) | (time > EPOCH_MS[1]), values=time, reason=reason)
    for name in ("vehicle_id", "frame_id", "total_frames", "lane_id"):
        values = columns[name]
        reason = f"{name} is {{got}}, expected a whole number from 0; is a column missing?"
        check(path, row, (values < 0) | (values != np.round(values)), values=values, reason=reason)


def _periods(columns: Columns) -> Iterator[tuple[str, np.ndarray]]:
    """Yields name and rows of each period, in order of time: rows whose clocks began together."""
    zero = columns["global_time"] - STEP_MS * columns["frame_id"]
    for site in np.unique(columns["location"]):
        of_site = np.flatnonzero(columns["location"] == site)
        clocks = np.unique(zero[of_site])
        first = clocks[np.diff(clocks, prepend=-np.inf) > SAME_CLOCK_MS]
        period = np.searchsorted(first, zero[of_site], side="right")
        for number in range(1, len(first) + 1):
            yield f"{site}-{number}", of_site[period == number]


def _rows(path: Path, row: np.ndarray, columns: Columns, *, offset: int) -> tuple[Rows, np.ndarray]:
    """Returns the measurements of a period and their lanes: no line twice, vehicles told apart."""
    vehicle, frame = columns["vehicle_id"].astype(np.int64), columns["frame_id"].astype(np.int64)
    order = np.lexsort((row, frame, vehicle))
    repeated = np.zeros(len(order), dtype=bool)
    repeated[1:] = (np.diff(vehicle[order]) == 0) & (np.diff(frame[order]) == 0)
    if repeated.any():
        _log.warning("%s: %d lines repeat a vehicle and frame; the first counts", path, int(repeated.sum()))
    keep = order[~repeated]
    vehicle, frame, total = vehicle[keep], frame[keep], columns["total_frames"][keep]
    begins = np.ones(len(keep), dtype=bool)
    begins[1:] = (np.diff(vehicle) != 0) | (np.diff(frame) != 1) | (np.diff(total) != 0)
    track = np.cumsum(begins) - 1
    front = METRES_PER_FOOT * np.stack([columns["local_y"][keep], -columns["local_x"][keep]], axis=1)
    size = METRES_PER_FOOT * np.stack([columns["v_length"][keep], columns["v_width"][keep]], axis=1)
    heading = _headings(front, track)
    state = np.column_stack([front, heading, METRES_PER_FOOT * columns["v_vel"][keep]])
    ids = _unique_ids(vehicle[begins])[track] + offset
    rows = Rows(path, row[keep], ids, frame - frame.min(), state, size)
    check_plausible(rows, units="feet and feet/s")
    state[:, :2] = centre_from_front(front, heading, size[:, 0])
    return rows, columns["lane_id"][keep]


def _unique_ids(vehicle: np.ndarray) -> np.ndarray:
    """Returns a number of its own for each track, given the (ascending) numbers in the file."""
    starts = np.flatnonzero(np.diff(vehicle, prepend=-1))
    again = np.arange(len(vehicle)) - np.repeat(starts, np.diff(np.append(starts, len(vehicle))))
    return vehicle + again * REUSED


def _headings(front: np.ndarray, track: np.ndarray) -> np.ndarray:
    """Returns the headings along each track; where it hardly moves, the last one known, else the road's."""
    heading = np.zeros(len(front))
    starts = np.append(np.flatnonzero(np.diff(track, prepend=-1)), len(track))
    for first, last in pairwise(starts):
        at = np.arange(last - first)
        path = front[first:last]
        chord = path[np.minimum(at + HEADING_FRAMES, at[-1])] - path[np.maximum(at - HEADING_FRAMES, 0)]
        known = np.hypot(chord[:, 0], chord[:, 1]) > HEADING_CHORD
        if known.any():
            source = np.maximum.accumulate(np.where(known, at, -1))
            source = np.where(source < 0, np.argmax(known), source)
            heading[first:last] = np.arctan2(chord[source, 1], chord[source, 0])
    return heading


def _straight_road(rows: Rows, lane: np.ndarray) -> LaneMap:
    """Returns straight lanes through the median `y` of each lane's vehicles, as far as they were seen on it.

    Neighbours share a bound half way between their centres; a lane without a neighbour is `LANE_WIDTH` wide.
    """
    numbers = np.unique(lane)
    centre = {number: float(np.median(rows.state[lane == number, 1])) for number in numbers}
    reach = {number: rows.state[lane == number, 0] for number in numbers}
    order = sorted(numbers, key=lambda number: -centre[number])
    lanelets = []
    for place, number in enumerate(order):
        y = centre[number]
        above = centre[order[place - 1]] if place else math.inf
        below = centre[order[place + 1]] if place + 1 < len(order) else -math.inf
        left = (y + above) / 2 if above - y < 1.5 * LANE_WIDTH else y + LANE_WIDTH / 2
        right = (y + below) / 2 if y - below < 1.5 * LANE_WIDTH else y - LANE_WIDTH / 2
        ends = float(reach[number].min()) - 5.0, float(reach[number].max()) + 5.0
        bounds = (np.array([[x, bound] for x in ends]) for bound in (left, right))
        lanelets.append(Lanelet(int(number), *bounds))
    return LaneMap(tuple(lanelets))


def _pieces(name: str, rows: Rows, lane_map: LaneMap, *, start: float, piece: float) -> Iterator[Recording]:
    dt = STEP_MS * SECONDS_PER_MILLISECOND
    length = max(1, round(piece / dt))
    num_frames = int(rows.frame.max()) + 1
    stretch = seen_stretch(rows.state[:, 0], num_frames)
    for number, first in enumerate(range(0, num_frames, length), start=1):
        part = rows.select((rows.frame >= first) & (rows.frame < first + length))
        if len(part.row):
            frames = min(length, num_frames - first)
            yield Recording(
                f"{name}-{number}",
                fold(replace(part, frame=part.frame - first), frames),
                lane_map,
                dt,
                stretch[first : first + frames],
                start=start + first * dt,
                source=SOURCE,
            )
