"""Blocks of US-101: CommonRoad scenes of NGSIM's US-101, put into one frame and stitched.

Source: a CSV with `global_time_ms, vehicle_id, x, y, heading, v, length, width, scene` in m, rad, m/s, every
0.1 s; `+x` is the driving direction, `(x, y)` the middle of the front edge. Beside it the lanelets of every
scene as JSON.

A scene shows the vehicles that were between two places when it began, until they pass the second of them:
**nobody enters from behind**. So the covered stretch ends at a fixed `x`, but begins where the first vehicle
that was left out is by now: its beginning moves along with the traffic. Where scenes overlap, their stretches
add up; where they do not touch, the vehicles go into several recordings, so that nobody is missing within a
recording's coverage.
"""

from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from jaxtyping import Float

from worldmodel.data.error import RecordingError
from worldmodel.data.readers.assemble import Rows, centre_from_front, check_plausible, fold
from worldmodel.data.readers.table import check, read_csv, stack_chunks
from worldmodel.data.readers.us101_road import Bounds, join_maps, read_lanelets
from worldmodel.scene import Recording
from worldmodel.scene.units import SECONDS_PER_MILLISECOND

NUMBERS = ("global_time_ms", "vehicle_id", "x", "y", "heading", "v", "length", "width")
STEP_MS = 100
LANELETS = "us101_lanelets_common_frame.json.gz"
SOURCE = (
    "US-101, Los Angeles, 15 June 2005: NGSIM (FHWA, US Department of Transportation), CC BY-SA 3.0 / 4.0;"
    " scenes cut by CommonRoad (TU Munich), BSD-3-Clause; lanes from OpenStreetMap, ODbL 1.0"
)
NEAR = 50.0
"""The last vehicle that was left out drives like those within this distance ahead of it [m]."""
LAST_PERCENTILE = 99.0
"""Of the vehicles' fronts in a scene: where the scene ends. A few on slanted ramps are seen farther."""


@dataclass(frozen=True)
class Scene:
    """What one scene covers.

    Attributes:
        name: as in the file.
        start: its first frame.
        stretch: first and last covered `x` of its frames [m], `(T, 2)`.
    """

    name: str
    start: int
    stretch: Float[np.ndarray, "T 2"]

    def is_active(self, frame: int) -> bool:
        """Returns whether the scene was recorded in `frame`."""
        return self.start <= frame < self.start + len(self.stretch)


def read_block(
    path: str | Path, *, lanelets: str | Path | None = None, name: str | None = None
) -> tuple[Recording, ...]:
    """Returns the recordings of a block: one, and further ones for stretches that do not touch it.

    Args:
        lanelets: the scenes' maps; the file of the usual name beside the block if not given.
        name: of the first recording, the others get `-2`, `-3`, ...; `us101-A` for `us101_block_A.csv.gz` if
            not given.

    Raises:
        RecordingError: naming file and row.
    """
    path = Path(path)
    lanelets = Path(lanelets) if lanelets else path.with_name(LANELETS)
    name = name or path.name.split(".")[0].replace("us101_block_", "us101-")
    rows, scene_names, start = _read_rows(path)
    maps = read_lanelets(lanelets)
    if unknown := sorted(set(scene_names) - set(maps)):
        raise RecordingError(
            lanelets, None, f"no lanelets of scene {str(unknown[0])!r}; use the file that belongs to {path}"
        )
    scenes = [_scene(one, rows.select(scene_names == one)) for one in dict.fromkeys(scene_names)]
    pieces = []
    for number, patch in zip(count(1), _patches(scenes, rows, scene_names)):
        label = name if number == 1 else f"{name}-{number}"
        pieces.append(
            _recording(label, patch, rows, scene_names=scene_names, scenes=scenes, maps=maps, start=start)
        )
    return tuple(pieces)


def _read_rows(path: Path) -> tuple[Rows, np.ndarray, float]:
    """Returns the measurements (fronts, not yet centres), the scene of each, and the time of frame 0 [s]."""
    row, columns = stack_chunks(read_csv(path, NUMBERS, texts=("scene",)))
    time = columns["global_time_ms"]
    reason = "global_time_ms is {got}, expected not to run backwards; sort the rows by time"
    check(path, row, np.diff(time, prepend=time[0]) < 0, values=time, reason=reason)
    step, rest = np.divmod(time - time[0], STEP_MS)
    reason = f"global_time_ms is {{got}}, expected multiples of {STEP_MS} ms after the first; another source?"
    check(path, row, rest != 0, values=time, reason=reason)
    state = np.stack([columns[key] for key in ("x", "y", "heading", "v")], axis=1)
    size = np.stack([columns["length"], columns["width"]], axis=1)
    rows = Rows(path, row, columns["vehicle_id"].astype(np.int64), step.astype(np.int64), state, size)
    check_plausible(rows, units="m and m/s")
    return rows, columns["scene"].astype(str), float(time[0]) * SECONDS_PER_MILLISECOND


def _scene(name: str, rows: Rows) -> Scene:
    """Returns the stretch covered by the scene with these rows.

    A piece of road is known if no vehicle that touches it can be missing: behind, those whose front was short
    of the last recorded one when the scene began; ahead, those whose front is beyond the scene's end.
    """
    front, speed = rows.state[:, 0], rows.state[:, 3]
    start, stop = int(rows.frame.min()), int(rows.frame.max()) + 1
    last = np.percentile(front, LAST_PERCENTILE) - np.median(rows.size[:, 0])
    first, pace = float(front[rows.frame == start].min()), 0.0
    stretch = np.empty((stop - start, 2))
    for frame in range(start, stop):
        near = (rows.frame == frame) & (front >= first) & (front <= first + NEAR)
        pace = float(speed[near].mean()) if near.any() else pace
        stretch[frame - start] = min(first, last), last
        first += pace * STEP_MS * SECONDS_PER_MILLISECOND
    return Scene(name, start, stretch)


@dataclass(frozen=True)
class _Patch:
    """Stretches that follow each other in time: per frame the scenes they are made of, if any."""

    members: list[tuple[int, ...]]


def _patches(scenes: list[Scene], rows: Rows, scene_names: np.ndarray) -> list[_Patch]:
    """Returns the connected stretches, followed through time, the ones with most vehicles first."""
    num_frames = int(rows.frame.max()) + 1
    vehicles = np.stack(
        [np.bincount(rows.frame[scene_names == one.name], minlength=num_frames) for one in scenes]
    )
    patches: list[_Patch] = []
    for frame in range(num_frames):
        groups = _touching(scenes, frame)
        groups.sort(key=lambda group: -int(vehicles[list(group), frame].sum()))
        for patch in patches:
            patch.members.append(())
        new = []
        for group in groups:
            known = [
                patch for patch in patches if not patch.members[-1] and set(patch.members[-2]) & set(group)
            ]
            if known:
                # Where stretches meet, the one that brings most vehicles goes on.
                old = max(
                    known, key=lambda patch: vehicles[list(set(group) & set(patch.members[-2])), frame].sum()
                )
                old.members[-1] = group
            else:
                new.append(group)
        for group in new:
            idle = next((patch for patch in patches if not patch.members[-1]), None)
            if idle is None:
                patches.append(_Patch([()] * frame + [group]))
            else:
                idle.members[-1] = group
    return patches


def _touching(scenes: list[Scene], frame: int) -> list[tuple[int, ...]]:
    """Returns the scenes active in a frame, grouped where their stretches touch."""
    active = [
        (*one.stretch[frame - one.start], number) for number, one in enumerate(scenes) if one.is_active(frame)
    ]
    groups: list[tuple[int, ...]] = []
    reach = -np.inf
    for first, last, number in sorted(active):
        if first <= reach:
            groups[-1] = (*groups[-1], number)
        else:
            groups.append((number,))
        reach = max(reach, last)
    return groups


def _recording(
    name: str,
    patch: _Patch,
    rows: Rows,
    *,
    scene_names: np.ndarray,
    scenes: list[Scene],
    maps: dict[str, list[Bounds]],
    start: float,
) -> Recording:
    """Returns the recording of one patch, without the empty frames before and after it."""
    used = sorted({number for group in patch.members for number in group})
    number = np.array([[one.name for one in scenes].index(key) for key in scene_names])
    member = np.zeros((len(patch.members), len(scenes)), dtype=bool)
    coverage = np.zeros((len(patch.members), 2))
    for frame, group in enumerate(patch.members):
        member[frame, list(group)] = True
        if group:
            parts = np.stack([scenes[one].stretch[frame - scenes[one].start] for one in group])
            coverage[frame] = parts[:, 0].min(), parts[:, 1].max()
    own = rows.select(member[rows.frame, number])
    own.state[:, :2] = centre_from_front(own.state[:, :2], own.state[:, 2], own.size[:, 0])
    busy = np.flatnonzero(member.any(axis=1))
    whole = Recording(
        name,
        fold(own, len(coverage)),
        join_maps({scenes[one].name: maps[scenes[one].name] for one in used}),
        STEP_MS * SECONDS_PER_MILLISECOND,
        coverage,
        start=start,
        source=SOURCE,
    )
    return whole.crop(int(busy[0]), int(busy[-1]) + 1)
