"""Resampling and turning, against what one can compute by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from worldmodel.data import make_recording
from worldmodel.data.readers.transform import drop_mistimed_starts, resample, rotate
from worldmodel.scene import LaneMap, Recording, Tracks


def make_run(state: np.ndarray, valid: np.ndarray | None = None, *, dt: float = 0.2) -> Recording:
    state = np.asarray(state, dtype=float)[None]
    valid = np.ones(state.shape[:2], dtype=bool) if valid is None else valid[None]
    tracks = Tracks(np.array([1]), state, np.array([[4.0, 2.0]]), valid)
    road = LaneMap.straight(length=100.0, num_lanes=1)
    return Recording("run", tracks, road, dt, np.tile([0.0, 100.0], (state.shape[1], 1)))


def test_a_cubic_motion_is_interpolated_exactly() -> None:
    time = np.arange(6) * 0.2

    def motion(time: np.ndarray) -> np.ndarray:
        x, speed = time**3 + 5 * time, 3 * time**2 + 5
        return np.stack([x, np.full_like(x, 1.0), np.zeros_like(x), speed], axis=1)

    found = resample(make_run(motion(time)), 0.1)
    np.testing.assert_allclose(found.tracks.state[0], motion(np.arange(11) * 0.1), atol=1e-12)
    assert found.tracks.valid.all() and found.coverage.shape == (11, 2)


def test_recorded_frames_stay_as_they_are_and_gaps_stay_open() -> None:
    state = np.random.default_rng(0).normal(size=(7, 4))
    valid = np.array([True, True, False, True, True, True, False])
    found = resample(make_run(state, valid), 0.1)
    assert found.tracks.valid[0].tolist() == [True] * 3 + [False] * 3 + [True] * 5 + [False] * 2
    np.testing.assert_array_equal(found.tracks.state[0, [0, 2, 6, 8, 10]], state[[0, 1, 3, 4, 5]])


def test_headings_turn_the_shorter_way() -> None:
    state = [[0, 0, math.pi - 0.1, 10.0], [-2, 0, -math.pi + 0.1, 10.0]]
    found = resample(make_run(state), 0.1).tracks.state[0, 1, 2]
    assert abs(found) == pytest.approx(math.pi)


def test_the_same_step_changes_nothing_and_other_ratios_work() -> None:
    recording = make_recording(0, 3, 30)
    np.testing.assert_array_equal(resample(recording, 0.1).tracks.state, recording.tracks.state)
    slower = resample(recording, 0.3)
    np.testing.assert_allclose(slower.tracks.state, recording.tracks.state[:, ::3])
    finer = resample(recording, 0.04)
    assert finer.num_frames == 73  # 2.9 s / 0.04 s, and frame 0


def test_turning_there_and_back_returns_the_recording() -> None:
    recording = make_recording(0, 4, 20)
    turned = rotate(recording, 0.7)
    assert not np.allclose(turned.tracks.state, recording.tracks.state)
    back = rotate(turned, -0.7)
    np.testing.assert_allclose(back.tracks.state, recording.tracks.state, atol=1e-9)
    np.testing.assert_allclose(back.lane_map.bounds, recording.lane_map.bounds, atol=1e-9)


def test_what_pointed_along_the_angle_points_along_x() -> None:
    state = np.array([[0.0, 0.0, math.pi / 2, 5.0], [0.0, 1.0, math.pi / 2, 5.0]])
    turned = rotate(replace(make_run(state), name="up"), math.pi / 2)
    np.testing.assert_allclose(turned.tracks.state[0], [[0, 0, 0, 5], [1, 0, 0, 5]], atol=1e-12)


def test_a_vehicle_that_entered_between_two_frames_starts_at_the_next() -> None:
    at = np.array([1.4, 2, 3, 4, 5]) * 0.2  # the first position is from 0.08 s after its frame
    state = np.stack([10 * at, np.full(5, 2.0), np.zeros(5), np.full(5, 10.0)], axis=1)
    found = drop_mistimed_starts(make_run(state))
    assert found.tracks.valid[0].tolist() == [False, True, True, True, True]
    assert drop_mistimed_starts(make_run(state[1:])).tracks.valid.all()
    assert drop_mistimed_starts(make_run(state[:2])).tracks.valid.all()  # nothing says which is right
