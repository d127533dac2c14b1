"""Replay without pixels: egos that drive among recorded traffic, many at once, judged by a protocol.

Every slot holds one running episode. The others follow their recording and never react; the vehicle that an
ego replaces is not there. Gymnasium's contract, drawing and automatic resets are in `envs.replay`.
"""

from collections.abc import Sequence

import numpy as np
import torch

from envs.space import MAX_ACCEL, MAX_CURVATURE, MIN_ACCEL
from worldmodel.evaluation.episode import Outcome
from worldmodel.evaluation.metric import contact_side, first_hit, time_to_collision
from worldmodel.evaluation.protocol import Episode, Protocol
from worldmodel.scene import SPEED, Recording, X, check_consistent, step

REVERSE = -0.1
"""A slower speed than this is driving backwards [m/s]."""
SLACK = 0.1
"""So much less than the required distance will do: in a jam the driver's own distance is noise [m]."""
LOW = np.array([MIN_ACCEL, -MAX_CURVATURE])
HIGH = np.array([MAX_ACCEL, MAX_CURVATURE])


class Traffic:
    """The vehicles of every frame of several recordings in one padded table, so that a batch is one gather.

    Raises:
        ValueError: if the recordings differ in `dt` or do not obey the integrator.
    """

    def __init__(self, recordings: Sequence[Recording]) -> None:
        if len({one.dt for one in recordings}) != 1:
            raise ValueError(
                f"recordings with dt {[one.dt for one in recordings]}, expected one dt; resample them"
            )
        for one in recordings:
            check_consistent(one)
        self.dt = recordings[0].dt
        self.offset = np.cumsum([0, *(one.num_frames for one in recordings)])[:-1]
        self.coverage = np.concatenate([one.coverage for one in recordings])
        present = [np.flatnonzero(valid) for one in recordings for valid in one.tracks.valid.T]
        most = max(1, max(map(len, present)))
        self.row = np.full((len(present), most), -1)  # (frames of all recordings, vehicles)
        self.box = np.zeros((len(present), most, 5))
        self.speed = np.zeros((len(present), most))
        frames = [(one, frame) for one in recordings for frame in range(one.num_frames)]
        for index, (rows, (one, frame)) in enumerate(zip(present, frames, strict=True)):
            self.row[index, : len(rows)] = rows
            self.box[index, : len(rows), :3] = one.tracks.state[rows, frame, :3]
            self.box[index, : len(rows), 3:] = one.tracks.size[rows]
            self.speed[index, : len(rows)] = one.tracks.state[rows, frame, SPEED]


class ReplayCore:
    """`num_slots` egos in recorded traffic.

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
        self.recordings, self.episodes, self.protocol = tuple(recordings), tuple(episodes), protocol
        self.traffic = Traffic(recordings)
        self.num_slots = num_slots
        # What is being driven.
        self.episode = np.zeros(num_slots, dtype=np.int64)
        self.recording = np.zeros(num_slots, dtype=np.int64)
        self.vehicle = np.zeros(num_slots, dtype=np.int64)
        self.last = np.zeros(num_slots, dtype=np.int64)
        self.size = np.zeros((num_slots, 2))
        self.start_x = np.zeros(num_slots)
        self.human_distance = np.zeros(num_slots)
        # Where it is now.
        self.frame = np.zeros(num_slots, dtype=np.int64)
        self.state = np.zeros((num_slots, 4))
        self.action = np.zeros((num_slots, 2))
        self.steps = np.zeros(num_slots, dtype=np.int64)
        # How it went so far.
        self.outcome = np.zeros(num_slots, dtype=np.int64)
        self.side = np.zeros(num_slots, dtype=np.int64)
        self.hit_id = np.full(num_slots, -1)
        self.off_road = np.zeros(num_slots, dtype=bool)
        self.reverse = np.zeros(num_slots, dtype=bool)
        self.min_ttc = np.full(num_slots, np.inf)
        self._jerk_sum = np.zeros(num_slots)

    @property
    def distance(self) -> np.ndarray:
        """Progress along the road since the hand-over [m]."""
        return self.state[:, X] - self.start_x

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
        for slot, number in zip(slots.tolist(), episodes.tolist(), strict=True):
            episode = self.episodes[number]
            tracks = self.recordings[episode.recording].tracks
            self.episode[slot], self.recording[slot] = number, episode.recording
            self.vehicle[slot], self.last[slot] = episode.vehicle, episode.last
            self.frame[slot], self.human_distance[slot] = episode.start, episode.human_distance
            self.state[slot] = tracks.state[episode.vehicle, episode.start]
            self.size[slot] = tracks.size[episode.vehicle]
            self.start_x[slot] = self.state[slot, X]
        for counter in (self.steps, self.action, self.outcome, self.side, self._jerk_sum):
            counter[slots] = 0
        self.off_road[slots] = self.reverse[slots] = False
        self.min_ttc[slots], self.hit_id[slots] = np.inf, -1

    def history(self, slots: np.ndarray, num_frames: int) -> np.ndarray:
        """Returns the last `num_frames` recorded states up to the hand-over, `(N, K, 4)`."""
        states = []
        for slot in slots.tolist():
            track = self.recordings[self.recording[slot]].tracks.state[self.vehicle[slot]]
            states.append(track[self.frame[slot] + 1 - num_frames : self.frame[slot] + 1])
        return np.stack(states).astype(np.float64)

    def step(self, slots: np.ndarray, action: np.ndarray) -> None:
        """Moves the egos of `slots` by one step under `action` `(N, 2)`, clipped to what a car can do."""
        executed = np.clip(np.asarray(action, dtype=np.float64), LOW, HIGH)
        if np.isnan(executed).any():
            raise ValueError(
                f"action of slot {slots[np.isnan(executed).any(1)][0]} is NaN, expected finite numbers"
            )
        jerk = np.abs(executed[:, 0] - self.action[slots, 0]) / self.traffic.dt
        self._jerk_sum[slots] += np.where(self.steps[slots] > 0, jerk, 0.0)
        moved = step(torch.from_numpy(self.state[slots]), torch.from_numpy(executed), self.traffic.dt)
        self.state[slots], self.action[slots] = moved.numpy(), executed
        self.steps[slots] += 1
        self.frame[slots] += 1
        self.reverse[slots] |= self.state[slots, SPEED] < REVERSE
        self._meet_others(slots)
        self._leave_road(slots)
        self._reach_end(slots)

    def _meet_others(self, slots: np.ndarray) -> None:
        """Collisions and time-to-collision with everybody but the vehicle that the ego replaces."""
        index = self.traffic.offset[self.recording[slots]] + self.frame[slots]
        row = self.traffic.row[index]  # (N, V)
        valid = torch.from_numpy((row >= 0) & (row != self.vehicle[slots, None]))
        others = torch.from_numpy(self.traffic.box[index])
        ego = torch.from_numpy(np.concatenate([self.state[slots, :3], self.size[slots]], axis=1))
        speed = torch.from_numpy(self.state[slots, SPEED])
        ttc = time_to_collision(
            ego, speed, others, other_speed=torch.from_numpy(self.traffic.speed[index]), valid=valid
        )
        self.min_ttc[slots] = np.minimum(self.min_ttc[slots], ttc.numpy())
        is_hit, column = (part.numpy() for part in first_hit(ego, others, valid, margin=self.protocol.shrink))
        which = np.flatnonzero(is_hit)
        hit, column = slots[which], column[which]
        self.outcome[hit] = Outcome.COLLISION
        self.side[hit] = contact_side(ego[which], others[which, column]).numpy()
        for slot, vehicle in zip(hit.tolist(), row[which, column].tolist(), strict=True):
            self.hit_id[slot] = self.recordings[self.recording[slot]].tracks.ids[vehicle]

    def _leave_road(self, slots: np.ndarray) -> None:
        for number in np.unique(self.recording[slots]):
            mine = slots[self.recording[slots] == number]
            distance = self.recordings[number].lane_map.edge_distance(self.state[mine, :2])
            self.off_road[mine] = distance < self.protocol.road_margin
        gone = slots[self.off_road[slots] & (self.outcome[slots] == Outcome.RUNNING)]
        self.outcome[gone] = Outcome.OFF_ROAD

    def _reach_end(self, slots: np.ndarray) -> None:
        """Ends what is left at the end of the covered road or of the episode."""
        index = self.traffic.offset[self.recording[slots]] + self.frame[slots]
        at_edge = self.state[slots, X] > self.traffic.coverage[index, 1] - self.protocol.edge_margin
        over = (at_edge | (self.frame[slots] >= self.last[slots])) & (self.outcome[slots] == Outcome.RUNNING)
        needed = self.protocol.min_progress * np.maximum(self.human_distance[slots], 0.0)
        is_far = self.distance[slots] >= needed - SLACK
        if self.protocol.must_reach_edge:
            is_far &= at_edge
        self.outcome[slots[over]] = np.where(is_far, Outcome.FINISHED, Outcome.TIME_OUT)[over]
