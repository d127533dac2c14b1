"""The baselines against hand-computed values and against the recording they read."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from planners import IDM, LaneKeeping, LogReplay, NoAction
from planners.baseline import lane_curvature, leaders
from tests.factories import make_recording_of, make_straight, make_tracks
from worldmodel.data import make_recording
from worldmodel.evaluation.truth import Others
from worldmodel.scene import Recording, step
from worldmodel.types import Obs

LANE_CENTRE = 5.55  # of the middle one of three lanes of 3.7 m


def make_obs(
    recording: Recording, vehicle: int = 0, frame: int = 10, *, state: np.ndarray | None = None
) -> Obs:
    """What a vehicle sees, as far as the baselines look: state, size and origin."""
    now = recording.tracks.state[vehicle, frame] if state is None else state
    return Obs(
        image=torch.zeros(1, 1, 3, 2, 2, dtype=torch.uint8),
        state=torch.from_numpy(np.asarray(now, dtype=np.float64))[None, None],
        size=torch.from_numpy(recording.tracks.size[vehicle : vehicle + 1]),
        road=torch.zeros(1, 3, 2, 2),
        origin=torch.tensor([[0, vehicle, frame]]),
        scene=torch.zeros(1, dtype=torch.long),
    )


def queue(*cars: tuple[float, float, float]) -> Recording:
    """Cars of 4.5 m at `(x, y, speed)`, ten frames of standing pictures."""
    states = np.zeros((len(cars), 10, 4))
    for row, (x, y, speed) in enumerate(cars):
        states[row] = [x, y, 0.0, speed]
    return make_recording_of(make_tracks(states))


class Recorded:
    """An `OthersSource` for scenes in which everybody does what was recorded."""

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self.recordings = recordings

    def others(self, obs: Obs) -> Others:
        num = max(one.tracks.num_vehicles for one in self.recordings)
        box, speed = np.zeros((obs.batch_size, num, 5)), np.zeros((obs.batch_size, num))
        valid = np.zeros((obs.batch_size, num), dtype=bool)
        for row, (index, ego, frame) in enumerate(obs.origin.tolist()):
            tracks = self.recordings[index].tracks
            there = slice(tracks.num_vehicles)
            box[row, there] = np.concatenate([tracks.state[:, frame, :3], tracks.size], axis=1)
            speed[row, there] = tracks.state[:, frame, 3]
            valid[row, there] = tracks.valid[:, frame] & (np.arange(tracks.num_vehicles) != ego)
        return Others(box, speed, np.zeros_like(valid, dtype=np.int64), valid)


def test_no_action_does_nothing() -> None:
    plan = NoAction().plan(make_obs(make_straight()))
    assert plan.action.tolist() == [[[0.0, 0.0]]]
    torch.testing.assert_close(plan.ego, torch.tensor([[[1.0, 0.0, 0.0, 10.0]]], dtype=torch.float64))


def idm_accel(gap: float, speed: float, leader: float) -> float:
    """Treiber et al. (2000), equations 1 and 2, with the default parameters."""
    wanted = 2.0 + max(0.0, speed * 1.2 + speed * (speed - leader) / (2 * math.sqrt(1.5 * 2.0)))
    return 1.5 * (1 - (speed / 30.0) ** 4 - (wanted / gap) ** 2)


@pytest.mark.parametrize(
    ("gap", "speed", "leader"), [(30.0, 15.0, 15.0), (40.0, 15.0, 10.0), (8.0, 2.0, 9.0)]
)
def test_idm_follows_its_formula(gap: float, speed: float, leader: float) -> None:
    recording = queue((50.0, LANE_CENTRE, speed), (54.5 + gap, LANE_CENTRE, leader))
    action = IDM([recording], Recorded([recording])).plan(make_obs(recording, frame=5)).action[0, 0]
    assert action[0].item() == pytest.approx(idm_accel(gap, speed, leader), abs=1e-6)
    assert action[1].item() == pytest.approx(0.0, abs=1e-9)


def test_idm_by_hand() -> None:
    recording = queue((50.0, LANE_CENTRE, 15.0), (84.5, LANE_CENTRE, 15.0))  # gap 30 m, wanted 2 + 18 m
    action = IDM([recording], Recorded([recording])).plan(make_obs(recording, frame=5)).action[0, 0, 0]
    assert action.item() == pytest.approx(1.5 * (1 - 0.0625 - 4 / 9), abs=1e-6)


def test_idm_on_a_free_road_heads_for_the_desired_speed() -> None:
    recording = queue((50.0, LANE_CENTRE, 0.0))
    for speed, accel in ((0.0, 1.5), (30.0, 0.0)):
        obs = make_obs(recording, frame=5, state=np.array([50.0, LANE_CENTRE, 0.0, speed]))
        assert IDM([recording], Recorded([recording])).plan(obs).action[0, 0, 0].item() == pytest.approx(
            accel, abs=1e-6
        )


def test_idm_does_not_reverse() -> None:
    recording = queue((50.0, LANE_CENTRE, 0.3), (55.0, LANE_CENTRE, 0.0))
    plan = IDM([recording], Recorded([recording])).plan(make_obs(recording, frame=5))
    assert plan.ego[0, 0, 3].item() == pytest.approx(0.0, abs=1e-9)


def test_the_leader_is_the_nearest_ahead_in_the_own_lane() -> None:
    recording = queue(
        (50.0, LANE_CENTRE, 10.0),
        (90.0, LANE_CENTRE, 7.0),
        (70.0, LANE_CENTRE, 8.0),
        (60.0, LANE_CENTRE + 3.7, 1.0),
        (40.0, LANE_CENTRE, 2.0),
    )
    tracks, others = recording.tracks, Recorded([recording]).others(make_obs(recording, frame=5))
    gap, speed = leaders(recording.lane_map, tracks.state[:1, 0], tracks.size[:1], others, bend=np.zeros(1))
    assert gap.tolist() == pytest.approx([15.5]) and speed.tolist() == pytest.approx([8.0])


def test_lane_keeping_converges_to_the_lane_centre() -> None:
    recording = queue((50.0, LANE_CENTRE, 12.0))
    planner = LaneKeeping([recording])
    state = torch.tensor([20.0, LANE_CENTRE + 1.2, 0.05, 12.0], dtype=torch.float64)
    offsets = []
    for _ in range(100):
        action = planner.plan(make_obs(recording, frame=5, state=state.numpy())).action[0, 0]
        assert action[0].item() == 0.0 and abs(action[1].item()) * 144 <= 3.0 + 1e-9
        state = step(state, action, 0.1)
        offsets.append(state[1].item() - LANE_CENTRE)
    assert abs(offsets[-1]) < 0.01 and abs(state[2].item()) < 0.01
    assert min(offsets) > -0.1  # critically damped: hardly any overshoot


def test_lane_keeping_turns_alike_to_both_sides() -> None:
    recording = queue((50.0, LANE_CENTRE, 12.0))
    states = np.array([[50.0, LANE_CENTRE + 0.5, 0.02, 12.0], [50.0, LANE_CENTRE - 0.5, -0.02, 12.0]])
    curvature, bend = lane_curvature(recording.lane_map, states)
    assert curvature[0] == pytest.approx(-curvature[1]) and curvature[0] < 0.0
    assert bend.tolist() == pytest.approx([0.0, 0.0])


def test_log_replay_reproduces_the_recording() -> None:
    recording = make_recording(num_frames=60)
    for vehicle in (0, 3):
        plan = LogReplay([recording]).plan(make_obs(recording, vehicle, frame=15))
        state = torch.from_numpy(recording.tracks.state[vehicle, 15]).double()
        for tick, action in enumerate(plan.action[0]):
            state = step(state, action, 0.1)
            recorded = torch.from_numpy(recording.tracks.state[vehicle, 16 + tick]).double()
            torch.testing.assert_close(state, recorded, atol=1e-6, rtol=0)


def test_log_replay_does_nothing_after_the_end_of_the_record() -> None:
    recording = make_recording(num_frames=60)
    plan = LogReplay([recording], horizon=20).plan(make_obs(recording, 0, frame=50))
    assert (plan.action[0, 9:] == 0.0).all() and (plan.action[0, :9, 0] != 0.0).any()


def test_rows_are_looked_up_in_their_own_recording() -> None:
    recordings = [make_straight((10.0,)), make_straight((10.0, 20.0))]
    one, other = make_obs(recordings[0]), make_obs(recordings[1], vehicle=1)
    both = Obs(
        *(
            torch.cat([getattr(one, name), getattr(other, name)])
            for name in ("image", "state", "size", "road")
        ),
        origin=torch.tensor([[0, 0, 10], [1, 1, 10]]),
        scene=torch.arange(2),
    )
    accel = IDM(recordings, Recorded(recordings)).plan(both).action[:, 0, 0]
    free = [1.5 * (1 - (speed / 30) ** 4) for speed in (10.0, 20.0)]
    torch.testing.assert_close(accel, torch.tensor(free, dtype=torch.float64))
