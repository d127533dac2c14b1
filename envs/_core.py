"""Driving without pixels: egos among other traffic, many at once, judged by a protocol.

Every slot holds one running episode. `RoadCore` moves nothing itself: it keeps the books and judges.
`RecordedCore` hands vehicles of recordings over, and `ReplayCore` is the one whose others follow their
recording and never react; the vehicle that an ego replaces is not there. Gymnasium's contract, drawing and
automatic resets are in `envs._vector`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float

from envs.space import MAX_ACCEL, MAX_CURVATURE, MIN_ACCEL
from worldmodel.evaluation.episode import Outcome
from worldmodel.evaluation.metric import contact_side, first_hit, time_to_collision
from worldmodel.evaluation.protocol import Episode, Protocol
from worldmodel.evaluation.truth import Others
from worldmodel.scene import SPEED, Recording, X, check_consistent, step

REVERSE = -0.1
"""A slower speed than this is driving backwards [m/s]."""
SLACK = 0.1
"""So much less than the required distance will do: in a jam the driver's own distance is noise [m]."""
LOW = np.array([MIN_ACCEL, -MAX_CURVATURE])
HIGH = np.array([MAX_ACCEL, MAX_CURVATURE])


class RoadCore(ABC):
    """`num_slots` egos on a road: where they are, how it went so far, and when it is over.

    Args:
        num_episodes: how many there are to choose from.
        num_history: frames that every one of them has before the hand-over.
        protocol: how they are judged.
        num_slots: how many are driven at a time.
        dt: [s]
    """

    def __init__(
        self, *, num_episodes: int, num_history: int, protocol: Protocol, num_slots: int, dt: float
    ) -> None:
        self.num_episodes, self.num_history = num_episodes, num_history
        self.protocol, self.num_slots, self.dt = protocol, num_slots, dt
        # What is being driven.
        self.episode_id = np.zeros(num_slots, dtype=np.int64)
        self.recording = np.zeros(num_slots, dtype=np.int64)
        self.vehicle = np.zeros(num_slots, dtype=np.int64)
        self.last = np.zeros(num_slots, dtype=np.int64)
        self.size = np.zeros((num_slots, 2))
        self.human_distance = np.zeros(num_slots)
        # Where it is now.
        self.frame = np.zeros(num_slots, dtype=np.int64)
        self.state = np.zeros((num_slots, 4))
        self.action = np.zeros((num_slots, 2))
        self.steps = np.zeros(num_slots, dtype=np.int64)
        # How it went so far.
        self.distance = np.zeros(num_slots)  # along the road since the hand-over [m]
        self.outcome = np.zeros(num_slots, dtype=np.int64)
        self.side = np.zeros(num_slots, dtype=np.int64)
        self.hit_id = np.full(num_slots, -1)
        self.off_road = np.zeros(num_slots, dtype=bool)
        self.reverse = np.zeros(num_slots, dtype=bool)
        self.min_ttc = np.full(num_slots, np.inf)
        self._jerk_sum = np.zeros(num_slots)

    @property
    def mean_jerk(self) -> np.ndarray:
        """Mean absolute jerk of the executed actions [m/s^3]."""
        return self._jerk_sum / np.maximum(self.steps - 1, 1)

    @property
    def origin(self) -> np.ndarray:
        """Recording, vehicle row and frame of every slot."""
        return np.stack([self.recording, self.vehicle, self.frame], axis=1)

    def start(self, slots: np.ndarray, episodes: np.ndarray) -> None:
        """Hands the vehicles of `episodes` over in `slots`."""
        self.episode_id[slots] = episodes
        for counter in (self.steps, self.action, self.outcome, self.side, self.distance, self._jerk_sum):
            counter[slots] = 0
        self.off_road[slots] = self.reverse[slots] = False
        self.min_ttc[slots], self.hit_id[slots] = np.inf, -1
        self._hand_over(slots)

    def step(self, slots: np.ndarray, action: np.ndarray) -> None:
        """Moves the egos of `slots` by one step under `action` `(N, 2)`, clipped to what a car can do."""
        wanted = np.clip(np.asarray(action, dtype=np.float64), LOW, HIGH)
        if np.isnan(wanted).any():
            raise ValueError(
                f"action of slot {slots[np.isnan(wanted).any(1)][0]} is NaN, expected finite numbers"
            )
        executed = self._move(slots, wanted)
        jerk = np.abs(executed[:, 0] - self.action[slots, 0]) / self.dt
        self._jerk_sum[slots] += np.where(self.steps[slots] > 0, jerk, 0.0)
        self.action[slots] = executed
        self.steps[slots] += 1
        self.frame[slots] += 1
        self.reverse[slots] |= self.state[slots, SPEED] < REVERSE
        self._meet_others(slots)
        self._leave_road(slots)
        self._reach_end(slots)

    @abstractmethod
    def history(self, slots: np.ndarray, num_frames: int) -> Float[np.ndarray, "N K 4"]:
        """Returns the last `num_frames` states up to the hand-over."""

    @abstractmethod
    def _hand_over(self, slots: np.ndarray) -> None:
        """Fills what is being driven and where it is, for the episodes of `slots`."""

    @abstractmethod
    def _move(self, slots: np.ndarray, wanted: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        """Moves egos and others by one step; sets `state` and `distance`; returns the actions as executed."""

    @abstractmethod
    def others(self, slots: np.ndarray) -> Others:
        """Returns everybody but the egos of `slots`, at their newest frames."""

    @abstractmethod
    def _edge_distance(self, slots: np.ndarray) -> Float[np.ndarray, " N"]:
        """Returns how far inside the road the egos are [m]."""

    @abstractmethod
    def _is_at_end(self, slots: np.ndarray) -> Bool[np.ndarray, " N"]:
        """Returns whether the egos have reached the end of the known road."""

    def _meet_others(self, slots: np.ndarray) -> None:
        """Collisions and time-to-collision."""
        near = self.others(slots)
        valid, others = torch.from_numpy(near.valid), torch.from_numpy(near.box)
        ego = torch.from_numpy(np.concatenate([self.state[slots, :3], self.size[slots]], axis=1))
        speed = torch.from_numpy(self.state[slots, SPEED])
        ttc = time_to_collision(ego, speed, others, other_speed=torch.from_numpy(near.speed), valid=valid)
        self.min_ttc[slots] = np.minimum(self.min_ttc[slots], ttc.numpy())
        is_hit, column = (part.numpy() for part in first_hit(ego, others, valid, margin=self.protocol.shrink))
        which = np.flatnonzero(is_hit)
        hit, column = slots[which], column[which]
        self.outcome[hit] = Outcome.COLLISION
        self.side[hit] = contact_side(ego[which], others[which, column]).numpy()
        self.hit_id[hit] = near.id[which, column]

    def _leave_road(self, slots: np.ndarray) -> None:
        self.off_road[slots] = self._edge_distance(slots) < self.protocol.road_margin
        gone = slots[self.off_road[slots] & (self.outcome[slots] == Outcome.RUNNING)]
        self.outcome[gone] = Outcome.OFF_ROAD

    def _reach_end(self, slots: np.ndarray) -> None:
        """Ends what is left at the end of the known road or of the episode.

        Who gets to the end of the road before the episode is over is ahead of the recorded driver, with whom
        it would have ended. How far that one got later, where another stretch was covered, is not asked.
        """
        at_end = self._is_at_end(slots)
        over = (at_end | (self.frame[slots] >= self.last[slots])) & (self.outcome[slots] == Outcome.RUNNING)
        needed = self.protocol.min_progress * np.maximum(self.human_distance[slots], 0.0)
        is_far = self.distance[slots] >= needed - SLACK
        is_far |= at_end & (self.frame[slots] < self.last[slots])
        if self.protocol.must_reach_edge:
            is_far &= at_end
        self.outcome[slots[over]] = np.where(is_far, Outcome.FINISHED, Outcome.TIME_OUT)[over]


class RecordedCore(RoadCore):
    """Egos that take the places of recorded vehicles.

    Raises:
        ValueError: if there are no episodes, or the recordings differ in `dt` or do not obey the integrator.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        episodes: Sequence[Episode],
        *,
        protocol: Protocol,
        num_slots: int,
    ) -> None:
        if not episodes:
            raise ValueError("no episodes, expected at least one; choose other spans or another protocol")
        if len({one.dt for one in recordings}) != 1:
            raise ValueError(
                f"recordings with dt {[one.dt for one in recordings]}, expected one dt; resample them"
            )
        for one in recordings:
            check_consistent(one)
        self.recordings, self.episodes = tuple(recordings), tuple(episodes)
        self._start_x = np.zeros(num_slots)
        super().__init__(
            num_episodes=len(episodes),
            num_history=min(one.history for one in episodes),
            protocol=protocol,
            num_slots=num_slots,
            dt=recordings[0].dt,
        )

    def history(self, slots: np.ndarray, num_frames: int) -> Float[np.ndarray, "N K 4"]:
        """Returns the last `num_frames` recorded states up to the hand-over."""
        states = []
        for slot in slots.tolist():
            track = self.recordings[self.recording[slot]].tracks.state[self.vehicle[slot]]
            states.append(track[self.frame[slot] + 1 - num_frames : self.frame[slot] + 1])
        return np.stack(states).astype(np.float64)

    def _hand_over(self, slots: np.ndarray) -> None:
        for slot in slots.tolist():
            episode = self.episodes[self.episode_id[slot]]
            tracks = self.recordings[episode.recording].tracks
            self.recording[slot] = episode.recording
            self.vehicle[slot], self.last[slot] = episode.vehicle, episode.last
            self.frame[slot], self.human_distance[slot] = episode.start, episode.human_distance
            self.state[slot] = tracks.state[episode.vehicle, episode.start]
            self.size[slot] = tracks.size[episode.vehicle]
            self._start_x[slot] = self.state[slot, X]

    def _move(self, slots: np.ndarray, wanted: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        self.state[slots] = step(
            torch.from_numpy(self.state[slots]), torch.from_numpy(wanted), self.dt
        ).numpy()
        self.distance[slots] = self.state[slots, X] - self._start_x[slots]
        return wanted

    def _edge_distance(self, slots: np.ndarray) -> Float[np.ndarray, " N"]:
        distance = np.empty(len(slots))
        for number in np.unique(self.recording[slots]):
            mine = self.recording[slots] == number
            distance[mine] = self.recordings[number].lane_map.edge_distance(self.state[slots[mine], :2])
        return distance

    def _is_at_end(self, slots: np.ndarray) -> Bool[np.ndarray, " N"]:
        edge = [
            self.recordings[number].coverage[frame, 1]
            for number, frame in zip(self.recording[slots].tolist(), self.frame[slots].tolist(), strict=True)
        ]
        return np.asarray(self.state[slots, X] > np.array(edge) - self.protocol.edge_margin)


class ReplayCore(RecordedCore):
    """`num_slots` egos in recorded traffic that repeats itself.

    Example:
        >>> from worldmodel.data.synthetic import make_recording
        >>> from worldmodel.evaluation.protocol import V1, episodes
        >>> recording = make_recording()
        >>> core = ReplayCore([recording], episodes([recording]), protocol=V1, num_slots=1)
        >>> core.start(np.array([0]), np.array([0]))
        >>> core.step(np.array([0]), np.zeros((1, 2)))
        >>> int(core.steps[0])
        1
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        episodes: Sequence[Episode],
        *,
        protocol: Protocol,
        num_slots: int,
    ) -> None:
        super().__init__(recordings, episodes, protocol=protocol, num_slots=num_slots)
        self._table = Table(recordings)

    def others(self, slots: np.ndarray) -> Others:
        table = self._table
        index = table.offset[self.recording[slots]] + self.frame[slots]
        valid = (table.row[index] >= 0) & (table.row[index] != self.vehicle[slots, None])
        return Others(table.box[index], table.speed[index], table.id[index], valid)


class Table:
    """The vehicles of every frame of several recordings, padded, so that a batch is one gather."""

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self.offset = np.cumsum([0, *(one.num_frames for one in recordings)])[:-1]
        present = [np.flatnonzero(valid) for one in recordings for valid in one.tracks.valid.T]
        most = max(1, max(map(len, present)))
        self.row = np.full((len(present), most), -1)  # (frames of all recordings, vehicles)
        self.id = np.full((len(present), most), -1)
        self.box = np.zeros((len(present), most, 5))
        self.speed = np.zeros((len(present), most))
        frames = [(one, frame) for one in recordings for frame in range(one.num_frames)]
        for index, (rows, (one, frame)) in enumerate(zip(present, frames, strict=True)):
            self.row[index, : len(rows)] = rows
            self.id[index, : len(rows)] = one.tracks.ids[rows]
            self.box[index, : len(rows), :3] = one.tracks.state[rows, frame, :3]
            self.box[index, : len(rows), 3:] = one.tracks.size[rows]
            self.speed[index, : len(rows)] = one.tracks.state[rows, frame, SPEED]
