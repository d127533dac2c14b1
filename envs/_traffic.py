"""Simulated traffic without pixels: recorded scenes that are taken up, and go on by themselves."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from envs._core import RecordedCore
from worldmodel.evaluation.protocol import Episode, Protocol
from worldmodel.evaluation.truth import Others, Traffic
from worldmodel.scene import HEADING, SPEED, LaneMap, Recording, X, Y
from worldmodel.scene.traffic import RoadCurve, Scenario, Simulation

SAME = 0.01
"""Two maps whose bounds differ by less are one [m]."""
SCUFFED = 30.0
"""Vehicles this close to an ego that has touched one are not taken for crashed by the simulation [m]."""


class TrafficCore(RecordedCore):
    """`num_slots` egos in traffic that reacts to them.

    At the hand-over everybody is where the recording has him; drivers are drawn anew from the scenario's
    population, by `seed` and the number of the episode, so that every agent meets the same ones. From then on
    all but the ego are simulated, and others enter the road. The ego's desired speed is what its own driver
    would be given: without one, nobody would ever cut in ahead of it.

    Raises:
        ValueError: if a recording lies on another road than the scenario's.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        episodes: Sequence[Episode],
        *,
        scenario: Scenario,
        protocol: Protocol,
        num_slots: int,
        seed: int,
    ) -> None:
        super().__init__(recordings, episodes, protocol=protocol, num_slots=num_slots)
        self.curve, self._seed = RoadCurve(scenario.road), seed
        self.lane_map = self.curve.lane_map()
        for one in recordings:
            _check_road(one, self.lane_map, scenario)
        most = max(int(one.tracks.valid.sum(0).max()) for one in recordings)
        capacity = max(most + 20, scenario.capacity)
        self.simulation = Simulation(scenario, num_scenes=num_slots, capacity=capacity)
        self._row = np.zeros(num_slots, dtype=np.int64)  # the ego's in the simulation
        self._first = np.zeros(num_slots, dtype=np.int64)  # frame of the hand-over

    def is_recorded(self, slots: Int[np.ndarray, " N"], ago: Int[np.ndarray, " N"]) -> np.ndarray:
        """Returns whether so many frames ago was before the hand-over, or just then."""
        return np.asarray(self.frame[slots] - ago <= self._first[slots])

    def _hand_over(self, slots: np.ndarray) -> None:
        super()._hand_over(slots)
        self._first[slots] = self.frame[slots]
        for slot in slots.tolist():
            tracks, frame = self.recordings[self.recording[slot]].tracks, self.frame[slot]
            present = np.flatnonzero(tracks.valid[:, frame])
            rows = self.simulation.put(
                slot,
                self._to_road(tracks.state[present, frame].astype(np.float64)),
                tracks.size[present],
                ids=tracks.ids[present],
                seed=[self._seed, int(self.episode_id[slot])],
            )
            self._row[slot] = rows[np.flatnonzero(present == self.vehicle[slot])[0]]

    def _move(self, slots: np.ndarray, wanted: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        executed = super()._move(slots, wanted)
        driven, driven_to = self._row[slots, None], self._to_road(self.state[slots])[:, None]
        self.simulation.step(slots, driven=driven, driven_to=driven_to)
        self._forgive(slots)
        return executed

    def _forgive(self, slots: np.ndarray) -> None:
        """Leaves it to the protocol, which is less strict, whether an ego has collided."""
        state = self.simulation.state
        index, row = torch.from_numpy(slots), torch.from_numpy(self._row[slots])
        touched = state.crashed[index, row]
        near = (state.x[index] - state.x[index, row].unsqueeze(1)).abs() < SCUFFED
        state.crashed[index] &= ~(near & touched.unsqueeze(1))

    def traffic(self, slots: Int[np.ndarray, " N"]) -> Traffic:
        """Returns how the traffic of `slots` stands, and who drives; copies."""
        index = torch.from_numpy(slots)
        state, drivers = self.simulation.state[index], self.simulation.drivers[index]
        return Traffic(state, drivers, torch.from_numpy(self._row[slots]), self.curve)

    def others(self, slots: np.ndarray) -> Others:
        index = torch.from_numpy(slots)
        state, drivers = self.simulation.state[index], self.simulation.drivers[index]
        pose = self.curve.to_world(torch.stack([state.x, state.y, state.heading], dim=-1).numpy())
        size = torch.stack([drivers.length, drivers.width], dim=-1).numpy()
        valid = state.valid.numpy().copy()
        valid[np.arange(len(slots)), self._row[slots]] = False
        box = np.concatenate([pose, size], axis=-1)
        return Others(box, state.speed.numpy(), self.simulation.ids[slots], valid)

    def _to_road(self, state: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 4"]:
        pose = self.curve.to_road(state[:, [X, Y, HEADING]])
        return np.concatenate([pose, state[:, [SPEED]]], axis=1)


def _check_road(recording: Recording, lane_map: LaneMap, scenario: Scenario) -> None:
    got, expected = recording.lane_map.lanelets, lane_map.lanelets
    lines = [
        (a, b)
        for one, other in zip(got, expected, strict=False)
        for a, b in ((one.left, other.left), (one.right, other.right))
    ]
    same = len(got) == len(expected) and all(
        a.shape == b.shape and np.allclose(a, b, atol=SAME) for a, b in lines
    )
    if not same or recording.dt != scenario.dt:
        raise ValueError(
            f"recording {recording.name!r} has {len(got)} lanelets that are not those of scenario "
            f"{scenario.name!r} (or another dt); give the scenario that it was simulated with"
        )
