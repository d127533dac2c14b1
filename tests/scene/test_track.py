import numpy as np

from tests.factories import make_recording_of, make_straight, make_tracks
from worldmodel.scene import HEADING, Recording, X, Y, step_excess


def patchy() -> Recording:
    """Three vehicles over six frames; the state says who and when: x = 10 row + frame."""
    states = np.zeros((3, 6, 4))
    states[..., X] = 10 * np.arange(3)[:, None] + np.arange(6)
    states[..., Y], states[..., HEADING] = 2.0, 0.25
    rows = ["111011", "000000", "011000"]
    return make_recording_of(make_tracks(states, valid=np.array([[c == "1" for c in row] for row in rows])))


def test_runs_are_the_contiguous_stretches() -> None:
    assert patchy().tracks.runs() == [(0, 0, 3), (0, 4, 6), (2, 1, 3)]


def test_runs_of_an_empty_recording() -> None:
    assert patchy().tracks.select([1]).runs() == []


def test_runs_agree_with_a_loop() -> None:
    valid = np.random.default_rng(0).random((20, 50)) < 0.6
    tracks = make_tracks(np.zeros((20, 50, 4)), valid=valid)
    marked = np.zeros_like(valid)
    for row, first, last in tracks.runs():
        assert valid[row, first:last].all()
        assert first == 0 or not valid[row, first - 1]
        assert last == 50 or not valid[row, last]
        marked[row, first:last] = True
    np.testing.assert_array_equal(marked, valid)


def test_select_keeps_everything_of_a_row() -> None:
    tracks = patchy().tracks.select([2, 0])
    assert tracks.ids.tolist() == [102, 100]
    assert tracks.state[:, 0, X].tolist() == [20.0, 0.0]
    assert tracks.valid[0].tolist() == patchy().tracks.valid[2].tolist()
    assert (tracks.num_vehicles, tracks.num_frames) == (2, 6)


def test_crop_keeps_frames_and_who_is_in_them() -> None:
    cropped = patchy().crop(3, 6)
    assert cropped.tracks.ids.tolist() == [100]
    assert cropped.tracks.state[0, :, X].tolist() == [3.0, 4.0, 5.0]
    assert cropped.tracks.valid[0].tolist() == [False, True, True]
    assert cropped.num_frames == 3 and cropped.coverage.shape == (3, 2)
    assert np.isclose(cropped.start, 0.3) and np.isclose(cropped.duration, 0.3)


def test_mirror_swaps_left_and_right() -> None:
    recording = make_straight()
    mirrored = recording.mirror()
    np.testing.assert_allclose(mirrored.tracks.state[..., Y], -recording.tracks.state[..., Y])
    lanes = mirrored.lane_map.query(mirrored.tracks.state[:, 0, :2]).lanelet
    assert lanes.tolist() == [0, 1, 2]
    assert mirrored.name != recording.name
    np.testing.assert_array_equal(mirrored.mirror().tracks.state, recording.tracks.state)


def test_mirror_turns_headings() -> None:
    assert patchy().mirror().tracks.state[0, 0, HEADING] == -0.25


def test_step_excess_is_the_jump() -> None:
    path = np.stack([np.arange(30.0), np.zeros(30)], axis=1)
    path[12:] += [2.0, -0.5]
    excess = step_excess(path)
    np.testing.assert_allclose(excess[11], [2.0, -0.5])
    assert np.abs(np.delete(excess, 11, axis=0)).max() == 0
