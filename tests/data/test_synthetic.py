"""Made-up traffic is what the tests of everything else believe it to be."""

import numpy as np
import pytest
import torch

from worldmodel.data.synthetic import CHANGE_TIME, FIRST_ID, make_recording
from worldmodel.scene import boxes_overlap, inverse, rollout


def test_the_same_seed_gives_the_same_recording() -> None:
    one, two, other = make_recording(3), make_recording(3), make_recording(4)
    np.testing.assert_array_equal(one.tracks.state, two.tracks.state)
    assert not np.array_equal(one.tracks.state, other.tracks.state)
    assert one.name == "synthetic-3" and other.name == "synthetic-4"


def test_shapes_and_identity() -> None:
    recording = make_recording(0, 7, 50, num_lanes=4)
    assert recording.tracks.state.shape == (7, 50, 4)
    assert recording.tracks.ids.tolist() == [FIRST_ID + row for row in range(7)]
    assert recording.tracks.valid.all()
    assert recording.coverage.shape == (50, 2)
    assert recording.duration == pytest.approx(5.0)
    assert len(recording.lane_map.lanelets) == 4


@pytest.mark.parametrize("seed", range(5))
def test_nobody_overlaps_or_leaves_the_road(seed: int) -> None:
    recording = make_recording(seed, 20, 400)
    state = torch.from_numpy(recording.tracks.state)
    size = torch.from_numpy(recording.tracks.size)[:, None].expand(-1, 400, -1)
    boxes = torch.cat([state[..., :3], size], dim=-1)
    first, second = torch.triu_indices(20, 20, offset=1)
    assert not boxes_overlap(boxes[first], boxes[second]).any()
    edge = recording.lane_map.edge_distance(recording.tracks.state[..., :2].reshape(-1, 2))
    assert edge.min() > 1.0


def test_states_obey_the_kinematics() -> None:
    recording = make_recording(1, 5, 80)
    state = torch.from_numpy(recording.tracks.state)
    actions = inverse(state, recording.dt)
    torch.testing.assert_close(rollout(state[:, 0], actions, recording.dt), state[:, 1:])
    assert actions[..., 0].abs().max() < 4.0
    assert actions[..., 1].abs().max() < 0.05


def test_vehicle_0_changes_from_the_leftmost_lane_to_the_next_and_only_it() -> None:
    recording = make_recording(2, 6, 100)
    query = recording.lane_map.query
    first, last = (query(recording.tracks.state[:, frame, :2]).lanelet for frame in (0, -1))
    assert first.tolist() == [0, 1, 2, 0, 1, 2]
    assert last.tolist() == [1, 1, 2, 0, 1, 2]
    short = make_recording(2, 6, int(CHANGE_TIME / 0.1))
    assert query(short.tracks.state[:, -1, :2]).lanelet.tolist() == first.tolist()


def test_a_window_hides_who_is_outside() -> None:
    recording = make_recording(0, 9, 60, window=(100.0, 160.0))
    x, valid = recording.tracks.state[..., 0], recording.tracks.valid
    np.testing.assert_array_equal(valid, (x >= 100.0) & (x <= 160.0))
    assert valid.any(axis=1).all() and not valid.all()
    np.testing.assert_array_equal(recording.coverage[7], [100.0, 160.0])


def test_a_single_frame_and_a_single_vehicle_are_allowed() -> None:
    recording = make_recording(0, 1, 1, num_lanes=1)
    assert recording.tracks.state.shape == (1, 1, 4)
    assert np.isfinite(recording.tracks.state).all()


@pytest.mark.parametrize("count", ["num_vehicles", "num_frames", "num_lanes"])
def test_empty_traffic_is_refused(count: str) -> None:
    with pytest.raises(ValueError, match=f"{count}=0, expected at least 1"):
        make_recording(0, **{count: 0})


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody is ever in window"):
        make_recording(0, window=(-50.0, -10.0))
