"""Drives again what was driven, from the actions kept: who was where, for judging faults and for videos.

An environment that begins an episode in the same way every time, and gets the same actions, does the same
again. Nothing is drawn meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from worldmodel.app.course import Course
from worldmodel.evaluation.fault import Fault, fault_of_tracks
from worldmodel.evaluation.truth import Others
from worldmodel.scene import Recording, Tracks

CLOSE = 0.1
"""A drive that ends farther from where it ended before is another one [m]."""


@runtime_checkable
class Core(Protocol):
    """What moves the egos of an environment, one a slot."""

    state: np.ndarray
    hit_id: np.ndarray

    def start(self, slots: np.ndarray, episodes: np.ndarray) -> None:
        """Begins episodes."""
        ...

    def step(self, slots: np.ndarray, action: np.ndarray) -> None:
        """Moves the egos of some slots."""
        ...

    def others(self, slots: np.ndarray) -> Others:
        """Returns everybody but the egos."""
        ...


@dataclass(frozen=True)
class Driven:
    """What is kept of a drive: actions `(T, 2)`, and where the ego was at its end."""

    action: Float[np.ndarray, "T 2"]
    end: Float[np.ndarray, "2"]


@dataclass(frozen=True)
class Reenactment:
    """An episode as it was driven.

    Attributes:
        recording: of the others from the hand-over on; the ego's row is never valid.
        vehicle: row of the ego.
        ego: its states.
        hit_id: number of the vehicle that it touched, or -1.
    """

    recording: Recording
    vehicle: int
    ego: Float[np.ndarray, "T 4"]
    hit_id: int

    @property
    def fault(self) -> Fault:
        """Whose the collision is at its end."""
        if self.hit_id < 0:
            return Fault.NONE
        tracks = self.recording.tracks
        row = int(np.flatnonzero(tracks.ids == self.hit_id)[0])
        first = len(self.ego) - int(np.argmin(np.append(tracks.valid[row, ::-1], False)))
        return fault_of_tracks(
            self.ego[first:], tracks.state[row, first:], tracks.size[[self.vehicle, row]],
            lane_map=self.recording.lane_map, dt=self.recording.dt,
        )  # fmt: skip


def read_drives(path: Path, agent: str, numbers: Sequence[int]) -> list[Driven]:
    """Returns an agent's drives of the episodes `numbers`, from a `trajectories.parquet`."""
    columns = ["episode", "step", "x", "y", "accel", "curvature"]
    keep = [("agent", "=", agent), ("episode", "in", list(numbers))]
    table = pq.read_table(path, columns=columns, filters=keep).to_pydict() if numbers else {}
    found = []
    for number in numbers:
        of_episode = np.array(table["episode"]) == number
        steps = {name: np.array(table[name])[of_episode] for name in columns[1:]}
        order = np.argsort(steps["step"])
        path_of = np.stack([steps["x"], steps["y"]], axis=1)[order]
        action = np.stack([steps["accel"], steps["curvature"]], axis=1)[order]
        found.append(Driven(action[1:], path_of[-1]))  # the first is the hand-over
    return found


def reenact(course: Course, numbers: Sequence[int], drives: Sequence[Driven]) -> list[Reenactment]:
    """Returns the episodes `numbers` as they were driven.

    Raises:
        ValueError: they end elsewhere, or the environment cannot do it.
    """
    if not numbers:
        return []
    env = course.make_env(len(numbers))
    core: Any = getattr(env.unwrapped, "core", None)
    if not isinstance(core, Core):
        raise ValueError(f"{type(env.unwrapped).__name__} cannot drive anything again; use env=traffic")
    slots = np.arange(len(numbers))
    core.start(slots, np.asarray(numbers))
    moments = [(slots, core.state.copy(), core.others(slots))]
    for step in range(max(len(one.action) for one in drives)):
        going = np.array([slot for slot in slots.tolist() if len(drives[slot].action) > step])
        core.step(going, np.stack([drives[slot].action[step] for slot in going.tolist()]))
        moments.append((going, core.state[going].copy(), core.others(going)))
    env.close()
    found = [
        _collected(course, int(number), slot, moments=moments, hit_id=int(core.hit_id[slot]))
        for slot, number in enumerate(numbers)
    ]
    for number, one, drive in zip(numbers, found, drives, strict=True):
        if np.linalg.norm(one.ego[-1, :2] - drive.end) > CLOSE:
            raise ValueError(
                f"episode {number} ends at {one.ego[-1, :2].round(1)}, but was driven to "
                f"{drive.end.round(1)}: the code has changed since; drive again in a new folder"
            )
    return found


Moment = tuple[Int[np.ndarray, " N"], Float[np.ndarray, "N 4"], Others]


def _collected(
    course: Course, number: int, slot: int, *, moments: Sequence[Moment], hit_id: int
) -> Reenactment:
    """Sorts what was around a slot by vehicle."""
    episode = course.episodes[number]
    source = course.store.recordings[episode.recording]
    mine = [(np.flatnonzero(slots == slot), state, others) for slots, state, others in moments]
    mine = [(row[0], state, others) for row, state, others in mine if len(row)]
    seen = [others.id[row][others.valid[row]] for row, _, others in mine]
    ids = np.unique(np.concatenate([*seen, [episode.vehicle_id]]))
    ego_row, T = int(np.searchsorted(ids, episode.vehicle_id)), len(mine)
    state, size = np.zeros((len(ids), T, 4)), np.ones((len(ids), 2))
    valid = np.zeros((len(ids), T), dtype=bool)
    for t, (row, _, others) in enumerate(mine):
        there = np.flatnonzero(others.valid[row])
        rows = np.searchsorted(ids, others.id[row, there])
        state[rows, t, :3], state[rows, t, 3] = others.box[row, there, :3], others.speed[row, there]
        size[rows], valid[rows, t] = others.box[row, there, 3:], True
    size[ego_row] = source.tracks.size[episode.vehicle]
    coverage = np.tile(source.coverage[episode.start], (T, 1))
    recording = Recording(source.name, Tracks(ids, state, size, valid), source.lane_map, source.dt, coverage)
    return Reenactment(recording, ego_row, np.stack([state[row] for row, state, _ in mine]), hit_id)
