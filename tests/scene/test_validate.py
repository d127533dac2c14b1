from dataclasses import replace

import numpy as np
import pytest
import shapely

from tests.factories import make_recording_of, make_straight, make_tracks
from worldmodel.data import make_recording
from worldmodel.scene import HEADING, SPEED, LaneMap, Recording, X, Y, check_consistent, summary, validate
from worldmodel.scene.validate import _overlapping_pairs, misrecorded


def edit(recording: Recording, **changes: np.ndarray) -> Recording:
    return replace(recording, tracks=replace(recording.tracks, **changes))


def changed_state(row: int, frame: int | slice, column: int | slice, value: float) -> Recording:
    recording = make_straight()
    state = recording.tracks.state.copy()
    state[row, frame, column] = value
    return edit(recording, state=state)


def found(recording: Recording) -> list[tuple[str, int | None, int | None]]:
    return [(problem.kind, problem.vehicle, problem.frame) for problem in validate(recording)]


def test_sound_recordings_have_no_problems() -> None:
    assert validate(make_straight()) == []
    assert validate(make_recording(3, num_vehicles=12, num_frames=80)) == []


def test_teleport_is_named_once() -> None:
    recording = make_straight()
    state = recording.tracks.state.copy()
    state[1, 20:, X] += 2.5
    (problem,) = validate(edit(recording, state=state))
    assert (problem.kind, problem.vehicle, problem.frame) == ("teleport", 101, 20)
    assert "2.50 m" in problem.message and "expected at most 1.0" in problem.message


def test_gap_is_no_teleport() -> None:
    recording = make_straight()
    valid = recording.tracks.valid.copy()
    valid[1, 10:30] = False
    assert validate(edit(recording, valid=valid)) == []


def test_what_is_not_valid_is_not_read() -> None:
    recording = changed_state(0, slice(10, 20), slice(None), np.nan)
    valid = recording.tracks.valid.copy()
    valid[0, 10:20] = False
    assert validate(edit(recording, valid=valid)) == []


def test_nan_in_a_valid_state() -> None:
    assert found(changed_state(2, slice(7, 9), SPEED, np.nan)) == [("nan", 102, 7)]


@pytest.mark.parametrize("dt", [0.0, -0.1, np.nan, np.inf])
def test_time_must_go_forward(dt: float) -> None:
    (problem,) = validate(replace(make_straight(), dt=dt))
    assert problem.kind == "time" and f"dt={dt}" in problem.message


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ([-4.5, 1.8], "length is -4.50"),
        ([4.5, 0.0], "width is 0.00"),
        ([4.5, np.nan], "width is nan"),
        ([4.5, 6.4], "feet"),
    ],
)
def test_size_must_be_that_of_a_vehicle(size: list[float], message: str) -> None:
    recording = make_straight()
    sizes = recording.tracks.size.copy()
    sizes[1] = size
    problem, *_ = validate(edit(recording, size=sizes))
    assert (problem.kind, problem.vehicle) == ("size", 101) and message in problem.message


def test_speed_in_feet_per_second() -> None:
    recording = make_straight()
    state = recording.tracks.state * np.array([1, 1, 1, 1 / 0.3048])
    problems = validate(edit(recording, state=state))
    assert [problem.kind for problem in problems] == ["speed"] * 3
    assert all("3.28" in problem.message and "ft/s" in problem.message for problem in problems)


def test_speed_beyond_belief() -> None:
    assert ("speed", 100, 5) in found(changed_state(0, 5, SPEED, 400.0))


def test_reverse_is_sound() -> None:
    recording = make_straight()
    turned = recording.tracks.state * np.array([1, 1, 1, -1.0])
    turned[..., HEADING] = np.pi
    assert validate(edit(recording, state=turned)) == []


def test_heading_in_degrees() -> None:
    assert found(changed_state(1, slice(None), HEADING, 90.0)) == [("heading", 101, None)]


def test_overlap_names_both_and_the_first_frame() -> None:
    recording = make_straight((10.0, 12.0))
    state = recording.tracks.state.copy()
    state[:, :, Y] = 3.0
    state[0, :, X] += 9.0  # 9 m ahead and 2 m/s slower: 0.2 m closer each frame, 4.5 m long, touching at 22.5
    (problem,) = validate(edit(recording, state=state))
    assert (problem.kind, problem.vehicle, problem.frame) == ("overlap", 100, 23)
    assert "vehicle 101 in 27 frames" in problem.message


def test_overlapping_pairs_agree_with_shapely() -> None:
    rng = np.random.default_rng(0)
    V, T = 25, 6
    states = rng.uniform([0.0, 0.0, -4.0], [60.0, 12.0, 4.0], (V, T, 3))
    size = np.stack([rng.uniform(2, 15, V), rng.uniform(1, 2.5, V)], axis=1)
    valid = rng.random((V, T)) < 0.7
    tracks = make_tracks(np.concatenate([states, np.zeros((V, T, 1))], -1), valid=valid, size=size)
    expected = []
    for t in range(T):
        boxes = {}
        for v in np.flatnonzero(valid[:, t]):
            rectangle = shapely.box(-size[v, 0] / 2, -size[v, 1] / 2, size[v, 0] / 2, size[v, 1] / 2)
            rotated = shapely.affinity.rotate(rectangle, states[v, t, 2], origin=(0, 0), use_radians=True)
            boxes[int(v)] = shapely.affinity.translate(rotated, *states[v, t, :2])
        expected += [(t, a, b) for a in boxes for b in boxes if a < b and boxes[a].intersects(boxes[b])]
    assert len(expected) > 50
    assert _overlapping_pairs(make_recording_of(tracks)) == expected


def test_vehicle_beside_the_map() -> None:
    (problem,) = validate(changed_state(2, slice(30, None), Y, -2.5))[-1:]
    assert (problem.kind, problem.vehicle, problem.frame) == ("off_map", 102, 30)
    assert "2.5 m outside" in problem.message and "20 frames" in problem.message


def test_half_a_car_over_the_edge_is_sound() -> None:
    assert validate(changed_state(2, slice(None), Y, -0.5)) == []


def test_map_without_lanes() -> None:
    assert found(replace(make_straight(), lane_map=LaneMap(()))) == [("off_map", None, None)]


def test_arrays_that_do_not_fit() -> None:
    recording = make_straight()
    state, coverage = recording.tracks.state, recording.coverage
    object.__setattr__(recording.tracks, "state", state[:, :-1])  # the test run would refuse it at once
    (problem,) = validate(recording)
    assert problem.kind == "shape" and "(3, 49, 4)" in problem.message and "(3, 50, 4)" in problem.message
    object.__setattr__(recording.tracks, "state", state)
    assert [p.kind for p in validate(replace(recording, coverage=coverage[1:]))] == ["shape"]
    assert [p.kind for p in validate(recording.crop(0, 0))] == ["shape"]


def test_reused_id() -> None:
    recording = make_straight()
    assert found(edit(recording, ids=np.array([7, 8, 7]))) == [("id", 7, None)]


def test_problem_reads_as_a_sentence() -> None:
    (problem,) = validate(edit(make_straight(), ids=np.array([7, 8, 7])))
    assert str(problem) == "id: vehicle 7: 2 rows have this id; expected one (split reused ids at gaps)"


def test_summary_by_hand() -> None:
    recording = make_straight((10.0, 20.0), num_frames=60)
    got = summary(replace(recording, coverage=np.tile([100.0, 200.0], (60, 1))))
    assert (got.num_vehicles, got.num_frames, got.coverage) == (2, 60, (100.0, 200.0))
    assert got.seconds == pytest.approx(6.0)
    assert got.vehicle_minutes == pytest.approx(0.2)
    assert got.mean_speed == pytest.approx(15.0)
    assert got.mean_coverage == pytest.approx(100.0)
    assert got.density == pytest.approx(2 / 0.2)  # two cars on two lanes of 100 m
    assert str(got).startswith(
        "made-up: 2 vehicles, 60 frames, 6.0 s, 0.2 vehicle-minutes, 15.0 m/s, 10.0 veh"
    )


@pytest.mark.parametrize(("value", "miss"), [(0.05, r"0\.\d+"), (np.nan, "nan")])
def test_steps_that_the_integrator_cannot_make_are_refused(value: float, miss: str) -> None:
    recording = make_recording()
    state = recording.tracks.state.copy()
    state[2, 11, Y] += value
    with pytest.raises(ValueError, match=rf"vehicle 102 misses frame 1[12] by {miss} m.*make_consistent"):
        check_consistent(edit(recording, state=state))
    valid = recording.tracks.valid.copy()
    valid[2, 11] = False
    check_consistent(edit(recording, state=state, valid=valid))


def test_who_cannot_be_driven_in_place_of() -> None:
    recording = make_straight()
    assert misrecorded(recording) == ()
    state = recording.tracks.state.copy()
    state[0, 5, Y] = 500.0  # off the road in one frame
    state[2, 7, :2] = state[1, 7, :2] + 0.5  # on top of another in one frame
    assert misrecorded(edit(recording, state=state)) == (100, 101, 102)
    length, width = recording.tracks.size[1]
    state = recording.tracks.state.copy()
    state[2, 7] = state[1, 7] + [length - 0.19, 0.0, 0.0, 0.0]
    recording = edit(recording, state=state, size=np.tile([length, width], (len(state), 1)))
    assert misrecorded(recording) == () and misrecorded(recording, margin=0.05) == (101, 102)
