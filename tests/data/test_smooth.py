import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.factories import make_recording_of, make_straight, make_tracks
from worldmodel.data import make_recording
from worldmodel.data.smooth import make_consistent
from worldmodel.scene import HEADING, SPEED, Recording, X, Y, inverse, rollout

DT = 0.1


def noisy(recording: Recording, sigma: float, *, seed: int = 0) -> Recording:
    state = recording.tracks.state.copy()
    state[..., :2] += np.random.default_rng(seed).normal(0, sigma, state[..., :2].shape)
    return make_recording_of(make_tracks(state, valid=recording.tracks.valid), recording.lane_map)


def manoeuvre(hertz: float, *, accel: float = 2.0, num_frames: int = 120) -> Recording:
    """One car whose acceleration swings at the given frequency."""
    time = np.arange(num_frames) * DT
    speed = 12 + accel / (2 * np.pi * hertz) * (1 - np.cos(2 * np.pi * hertz * time))
    states = np.zeros((1, num_frames, 4))
    states[0, :, X], states[0, :, Y], states[0, :, SPEED] = 10 + np.cumsum(speed) * DT, 2.0, speed
    return make_recording_of(make_tracks(states))


def actions_of(recording: Recording, row: int = 0) -> np.ndarray:
    return inverse(torch.from_numpy(recording.tracks.state[row]), recording.dt).numpy()


def position_error(a: Recording, b: Recording) -> float:
    valid = a.tracks.valid & b.tracks.valid
    delta = (a.tracks.state - b.tracks.state)[valid][:, :2]
    return float(np.sqrt((delta**2).sum(axis=1).mean()))


def assert_consistent(recording: Recording) -> None:
    """Inverse, then forward, gives every run back."""
    for row, first, last in recording.tracks.runs():
        states = torch.from_numpy(recording.tracks.state[row, first:last])
        back = rollout(states[0], inverse(states, recording.dt), recording.dt)
        torch.testing.assert_close(back, states[1:], rtol=0, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.0, 0.05, 0.5])
def test_inverse_then_forward_gives_the_recording_back(sigma: float) -> None:
    recording = noisy(make_recording(1, num_frames=150), sigma)
    valid = recording.tracks.valid.copy()
    valid[0, 40:45], valid[1, :60], valid[2, 2:] = False, False, False
    valid[3, 10:], valid[3, 20] = False, True
    recording = make_recording_of(make_tracks(recording.tracks.state, valid=valid), recording.lane_map)
    consistent = make_consistent(recording)
    assert_consistent(consistent)
    assert consistent.tracks.valid.tolist() == valid.tolist()


def test_constant_speed_is_left_alone() -> None:
    recording = make_straight()
    np.testing.assert_allclose(make_consistent(recording).tracks.state, recording.tracks.state, atol=1e-9)


def test_only_valid_states_change_and_the_input_does_not() -> None:
    recording = noisy(make_straight(), 0.1)
    valid = recording.tracks.valid.copy()
    valid[0, 10:30] = False
    state = recording.tracks.state.copy()
    state[0, 10:30] = np.nan
    recording = make_recording_of(make_tracks(state, valid=valid))
    got = make_consistent(recording)
    assert np.isnan(got.tracks.state[0, 10:30]).all()
    assert np.isfinite(got.tracks.state[valid]).all()
    np.testing.assert_array_equal(recording.tracks.state, state)


def test_smoothing_comes_closer_to_the_truth() -> None:
    truth = make_recording(2, num_frames=200)
    recorded = noisy(truth, 0.1)
    smooth = make_consistent(recorded)
    assert position_error(recorded, truth) == pytest.approx(0.1 * np.sqrt(2), rel=0.05)
    assert position_error(smooth, truth) < 0.45 * position_error(recorded, truth)
    # Differentiating the recorded positions instead gives 1.4 m/s.
    off = smooth.tracks.state[..., SPEED] - truth.tracks.state[..., SPEED]
    assert np.sqrt(np.square(off).mean()) < 0.15


@pytest.mark.parametrize(
    ("hertz", "least", "most"), [(0.1, 0.99, 1.01), (0.2, 0.97, 1.0), (0.5, 0.65, 0.8), (1.0, -0.3, 0.1)]
)
def test_bias_of_a_manoeuvre(hertz: float, least: float, most: float) -> None:
    """What is left of a sinusoidal acceleration: all at 0.1 Hz, three quarters at 0.5 Hz, nothing at 1 Hz."""
    truth = manoeuvre(hertz)
    expected, got = actions_of(truth)[20:-20, 0], actions_of(make_consistent(truth))[20:-20, 0]
    expected, got = expected - expected.mean(), got - got.mean()
    assert least < (expected @ got) / (expected @ expected) < most


@pytest.mark.parametrize("jump", [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (2.9, 0.3)])
def test_jump_is_no_acceleration(jump: tuple[float, float]) -> None:
    recording = make_straight()
    state = recording.tracks.state.copy()
    state[1, 25:, :2] += jump
    got = make_consistent(make_recording_of(make_tracks(state)))
    assert got.tracks.valid.all()
    assert_consistent(got)
    accel = actions_of(got, 1)[:, 0]
    assert np.abs(accel).max() < 3.0
    # Half of it before, half of it after; the ends stay where they were recorded.
    off = got.tracks.state[1, :, :2] - state[1, :, :2]
    assert np.linalg.norm(off, axis=1).max() < 0.6 * np.hypot(*jump)
    np.testing.assert_allclose(off[[0, -1]], 0.0, atol=0.1)


def test_large_jump_splits_the_run() -> None:
    recording = make_straight()
    state = recording.tracks.state.copy()
    state[1, 25:, X] += 8.0
    got = make_consistent(make_recording_of(make_tracks(state)))
    assert got.tracks.runs() == [(0, 0, 50), (1, 0, 25), (1, 26, 50), (2, 0, 50)]
    assert np.abs(actions_of(got.crop(26, 50), 1)[:, 0]).max() < 1e-6


def test_speed_glitch_is_smoothed_until_it_can_be_driven() -> None:
    recording = make_straight()
    state = recording.tracks.state.copy()
    state[1, :, X] += 0.42 * np.interp(np.arange(50), [20, 23], [0, 3])  # 4 m/s faster for 0.3 s
    got = make_consistent(make_recording_of(make_tracks(state)))
    assert np.abs(actions_of(got, 1)[:, 0]).max() < 8.0


def test_crawling_car_does_not_weave() -> None:
    """10 cm of sideways noise at 1 m/s would be full lock to either side."""
    time = np.arange(200) * DT
    states = np.zeros((1, 200, 4))
    states[0, :, X], states[0, :, Y] = 10 + time, 5.0
    noise = np.random.default_rng(0).normal(0, 1, 200)
    for t in range(1, 200):
        noise[t] = 0.95 * noise[t - 1] + np.sqrt(1 - 0.95**2) * noise[t]
    states[0, :, Y] += 0.1 * noise
    got = make_consistent(make_recording_of(make_tracks(states)))
    assert np.abs(got.tracks.state[0, :, HEADING]).max() < 0.1
    assert np.abs(actions_of(got)[:, 1]).max() < 0.1
    assert np.abs(got.tracks.state[0, :, Y] - 5.0).max() < 0.3


def test_parked_car_keeps_its_heading() -> None:
    states = np.zeros((1, 60, 4))
    states[..., :2] = np.array([20.0, 3.0]) + np.random.default_rng(0).normal(0, 0.02, (1, 60, 2))
    states[..., HEADING] = 0.7
    got = make_consistent(make_recording_of(make_tracks(states))).tracks.state[0]
    np.testing.assert_allclose(got[:, HEADING], 0.7, atol=0.05)
    assert np.abs(got[:, SPEED]).max() < 0.2


def test_recorded_headings_say_what_is_reverse() -> None:
    recording = make_straight((3.0, 3.0, 3.0))
    state = recording.tracks.state.copy()
    state[1, :, HEADING] = 3.1
    got = make_consistent(make_recording_of(make_tracks(state)))
    np.testing.assert_allclose(got.tracks.state[0, :, SPEED], 3.0, atol=1e-6)
    np.testing.assert_allclose(got.tracks.state[1, :, SPEED], -3.0, atol=1e-6)
    np.testing.assert_allclose(np.abs(got.tracks.state[1, :, HEADING]), np.pi, atol=1e-6)


def test_mirrored_recording_gives_mirrored_states() -> None:
    recording = noisy(make_recording(4), 0.1)
    there, here = make_consistent(recording.mirror()), make_consistent(recording).mirror()
    np.testing.assert_allclose(there.tracks.state, here.tracks.state, atol=1e-9)


def test_runs_do_not_know_each_other() -> None:
    recording = noisy(make_recording(5), 0.1)
    alone = make_recording_of(recording.tracks.select([3]), recording.lane_map)
    together = make_consistent(recording).tracks.state[3]
    np.testing.assert_allclose(make_consistent(alone).tracks.state[0], together, atol=1e-12)


@pytest.mark.parametrize("window", [2, 20])
def test_even_window_is_refused(window: int) -> None:
    with pytest.raises(ValueError, match=f"window={window}: expected an odd number"):
        make_consistent(make_straight(), window=window)


@pytest.mark.data
def test_real_vehicles_in_feet(shared_data: Path) -> None:
    """Twelve US-101 vehicles over 640 m: the bias of docs/log.md, and accelerations that cars can have."""
    with gzip.open(shared_data / "formats" / "us101_12_vehicles_feet.csv.gz", "rt") as stream:
        rows = list(csv.DictReader(stream))
    for key in sorted({(row["period"], row["Vehicle_ID"]) for row in rows}):
        own = [row for row in rows if (row["period"], row["Vehicle_ID"]) == key]
        states = np.zeros((1, len(own), 4))
        states[0, :, X] = [float(row["Local_Y"]) * 0.3048 for row in own]
        states[0, :, Y] = [22 - float(row["Local_X"]) * 0.3048 for row in own]
        recorded = make_recording_of(make_tracks(states))
        consistent = make_consistent(recorded)
        assert_consistent(consistent)
        assert position_error(recorded, consistent) < 0.2
        assert np.abs(actions_of(consistent)[:, 0]).max() < 8.5
        assert np.abs(actions_of(consistent)[:, 1]).max() <= 0.15 + 1e-9
