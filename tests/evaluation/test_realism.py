"""How traffic flows: gaps, cells and lane changes that can be counted by hand."""

from dataclasses import replace

import numpy as np
import pytest

from tests.factories import make_recording_of, make_tracks
from worldmodel.data import make_recording, us101
from worldmodel.evaluation.lane_place import Lanes, leader, place
from worldmodel.evaluation.realism import Flow, distances, flow_cells, lane_changes, measure, speed_curve
from worldmodel.scene import Lanelet, LaneMap, Recording
from worldmodel.scene.traffic import Scenario, TrafficRoad, simulate

FRAMES, DT = 60, 0.1
LEFT, MIDDLE, RIGHT = 9.25, 5.55, 1.85
"""Centres of three lanes of 3.7 m."""


def make_rows(cars: list[tuple[float, float, float]], *, lane_map: LaneMap | None = None) -> Recording:
    """Cars `(x at first, y, speed)` that keep to their lanes and speeds."""
    states = np.zeros((len(cars), FRAMES, 4))
    for row, (x, y, speed) in enumerate(cars):
        states[row, :, 0] = x + speed * DT * np.arange(FRAMES)
        states[row, :, 1], states[row, :, 3] = y, speed
    return make_recording_of(make_tracks(states), lane_map)


def make_swerve(y: np.ndarray) -> Recording:
    """One car at 10 m/s with the given lateral positions."""
    states = np.zeros((1, len(y), 4))
    states[0, :, 0], states[0, :, 1], states[0, :, 3] = 10.0 + np.arange(len(y)), y, 10.0
    return make_recording_of(make_tracks(states))


def make_flow(**changed: np.ndarray | float) -> Flow:
    rng = np.random.default_rng(0)
    drawn = {
        name: rng.normal(2.0, 0.5, 200)
        for name in ("time_gap", "low_speed_gap", "acceleration", "speed", "lateral_speed")
    }
    cells = {"cell_density": np.repeat([12.0, 22.0], 20), "cell_speed": np.repeat([20.0, 10.0], 20)}
    return Flow(**{**cells, **drawn, "kilometres": 100.0, **changed})


# --- Lanes --------------------------------------------------------------------------------------------------


def test_lanelets_that_go_on_are_one_lane() -> None:
    parts = []
    for first, last in ((0.0, 100.0), (100.0, 250.0)):
        for top in (7.4, 3.7):
            left = np.array([[first, top], [last, top]])
            parts.append(Lanelet(len(parts), left, left - np.array([0.0, 3.7])))
    lanes = Lanes.of(LaneMap(tuple(parts)))
    assert set(lanes.lane.tolist()) == {0, 1}
    for lane in (0, 1):
        own = lanes.lane == lane
        np.testing.assert_allclose(lanes.along[own], lanes.point[own, 0], atol=1e-9)


def test_lanelets_in_a_circle_are_one_lane() -> None:
    angle = np.linspace(0.0, 2 * np.pi, 181)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    halves = (circle[:91], circle[90:])
    lanelets = tuple(Lanelet(index, 98.0 * half, 102.0 * half) for index, half in enumerate(halves))
    lanes = Lanes.of(LaneMap(lanelets))
    assert set(lanes.lane.tolist()) == {0}
    assert lanes.along.max() == pytest.approx(200 * np.pi, rel=1e-3)


def test_us101_has_its_lanes() -> None:
    lanes = Lanes.of(us101("A").lane_map)
    longest = sorted((np.ptp(lanes.along[lanes.lane == lane]) for lane in set(lanes.lane)), reverse=True)
    assert longest[4] > 480.0 and longest[5] > 350.0  # five lanes and the auxiliary one
    assert len(longest) == 6


def test_the_leader_is_the_next_one_on_the_lane() -> None:
    placed = place(
        make_rows([(10.0, LEFT, 10.0), (80.0, LEFT, 10.0), (40.0, LEFT, 10.0), (20.0, RIGHT, 10.0)])
    )
    first = placed.frame == 0
    ahead = leader(placed)[first]
    assert [int(placed.vehicle[row]) if row >= 0 else -1 for row in ahead] == [2, -1, 1, -1]


# --- Counting -----------------------------------------------------------------------------------------------


def test_a_time_gap_is_what_lies_between_the_bumpers_over_the_speed() -> None:
    flow = measure([make_rows([(20.0, LEFT, 10.0), (44.5, LEFT, 10.0)])])
    np.testing.assert_allclose(flow.time_gap, np.full(6, 2.0))  # once a second
    assert flow.kilometres == pytest.approx(2 * FRAMES * DT * 10.0 / 1000.0)
    assert len(flow.low_speed_gap) == 0


def test_who_hardly_moves_keeps_a_distance() -> None:
    flow = measure([make_rows([(20.0, LEFT, 1.0), (27.5, LEFT, 1.0)])])
    np.testing.assert_allclose(flow.low_speed_gap, np.full(6, 3.0))
    assert len(flow.time_gap) == 0


def test_who_could_not_have_been_seen_to_follow_is_not_counted() -> None:
    recording = make_rows([(20.0, LEFT, 10.0), (44.5, LEFT, 10.0)])
    short = replace(recording, coverage=np.tile([0.0, 99.0], (FRAMES, 1)))
    assert len(measure([short]).time_gap) == 0


def test_density_and_speed_of_a_cell() -> None:
    lane_map = LaneMap.straight(length=300.0, num_lanes=3)
    recording = make_rows([(110.0, LEFT, 10.0), (130.0, LEFT, 10.0), (20.0, RIGHT, 5.0)], lane_map=lane_map)
    placed = place(recording)
    density, speed = flow_cells(recording, placed, Lanes.of(lane_map))
    # Two cars for five seconds on 100 m of the left lane, one on 100 m of the right one.
    np.testing.assert_allclose(np.sort(density), [10.0, 20.0], rtol=0.01)
    np.testing.assert_allclose(speed[np.argsort(density)], [5.0, 10.0], rtol=1e-6)


def test_only_recorded_road_counts() -> None:
    lane_map = LaneMap.straight(length=300.0, num_lanes=3)
    recording = make_rows([(110.0, LEFT, 2.0)], lane_map=lane_map)
    for end, expected in ((160.0, [1000.0 / 60.0]), (140.0, [])):
        seen = replace(recording, coverage=np.tile([0.0, end], (FRAMES, 1)))
        density, _ = flow_cells(seen, place(seen), Lanes.of(lane_map))
        np.testing.assert_allclose(density, expected, rtol=0.02)


def test_acceleration_is_that_of_a_second() -> None:
    recording = make_rows([(10.0, LEFT, 10.0)])
    recording.tracks.state[0, :, 3] = 10.0 + 1.5 * DT * np.arange(FRAMES)
    np.testing.assert_allclose(measure([recording]).acceleration, 1.5)


@pytest.mark.parametrize(("start", "end", "side"), [(LEFT, MIDDLE, -1), (RIGHT, MIDDLE, 1)])
def test_a_lane_change_counts_once(start: float, end: float, side: int) -> None:
    ramp = np.clip((np.arange(80) - 20) / 40.0, 0.0, 1.0)  # four seconds
    changes = lane_changes(place(make_swerve(start + (end - start) * ramp)), DT)
    assert changes.side.tolist() == [side]
    np.testing.assert_allclose(changes.lateral_speed, 3.7 / 4.0, rtol=1e-6)
    assert abs(changes.row[0] - 40) <= 1


def test_two_lanes_are_two_changes() -> None:
    y = np.interp(np.arange(160), [20, 60, 90, 130], [LEFT, MIDDLE, MIDDLE, RIGHT])
    assert lane_changes(place(make_swerve(y)), DT).side.tolist() == [-1, -1]


def test_crossing_a_border_and_coming_back_is_no_change() -> None:
    y = MIDDLE + 2.2 * np.sin(np.pi * np.arange(80) / 79)
    assert len(lane_changes(place(make_swerve(y)), DT).row) == 0


def test_a_mirror_changes_sides_and_nothing_else() -> None:
    recording = make_recording(seed=3, num_vehicles=9, num_frames=120)
    mirrored = recording.mirror()
    assert lane_changes(place(recording), DT).side.tolist() == [-1]
    assert lane_changes(place(mirrored), DT).side.tolist() == [1]
    ours, theirs = measure([recording]), measure([mirrored])
    assert all(value == pytest.approx(0.0, abs=1e-6) for value in _apart(ours, theirs).values())


def test_several_recordings_count_together() -> None:
    one, two = (make_recording(seed=seed, num_vehicles=6, num_frames=100) for seed in (1, 2))
    together, alone = measure([one, two]), measure([two])
    assert len(together.lateral_speed) == 2
    assert together.kilometres == pytest.approx(measure([one]).kilometres + alone.kilometres)
    np.testing.assert_array_equal(together.speed[-len(alone.speed) :], alone.speed)


def test_simulated_recordings_can_be_measured() -> None:
    scenario = Scenario("s", TrafficRoad.straight(num_lanes=2, length=400.0), density=25.0, inflow=0.0)
    recording = simulate(scenario, num_frames=100, warm_up=0.0)[0]
    flow = measure([recording])
    speed = recording.tracks.state[recording.tracks.valid][:, 3]
    assert flow.speed.mean() == pytest.approx(speed.mean(), rel=0.05)
    assert flow.kilometres == pytest.approx(speed.sum() * DT / 1000.0, rel=1e-2)
    assert len(flow.time_gap) > 20


def test_nobody_cannot_be_measured() -> None:
    recording = make_rows([(10.0, LEFT, 10.0)])
    empty = replace(recording, tracks=replace(recording.tracks, valid=np.zeros((1, FRAMES), dtype=bool)))
    with pytest.raises(ValueError, match="nobody drives in"):
        measure([empty])


# --- Comparing ----------------------------------------------------------------------------------------------


def test_traffic_is_like_itself() -> None:
    flow = make_flow()
    found = distances(flow, flow)
    assert found.pop("change_rate_ratio") == 1.0
    assert found.pop("speed_density_share") == 1.0
    assert set(found.values()) == {0.0}


def test_a_shift_is_the_distance_by_which_it_shifts() -> None:
    flow = make_flow()
    found = distances(flow, replace(flow, time_gap=flow.time_gap + 0.7, cell_speed=flow.cell_speed - 3.0))
    assert found["time_gap_wasserstein"] == pytest.approx(0.7)
    assert found["speed_density_error"] == pytest.approx(3.0)
    assert found["time_gap_ks"] > 0.3


def test_only_shared_densities_are_compared() -> None:
    other = make_flow(cell_density=np.repeat([12.0, 52.0], 20))
    found = distances(make_flow(), other)
    assert found["speed_density_share"] == 0.5
    assert found["speed_density_error"] == 0.0


def test_what_has_no_samples_has_no_distance() -> None:
    found = distances(make_flow(), make_flow(low_speed_gap=np.zeros(0), lateral_speed=np.zeros(0)))
    assert "low_speed_gap_wasserstein" not in found
    assert found["change_rate_ratio"] == 0.0


def test_the_curve_has_mean_and_quantiles_of_bins_with_enough_cells() -> None:
    flow = make_flow(
        cell_density=np.concatenate([np.full(11, 12.0), [40.0]]),
        cell_speed=np.concatenate([np.arange(11.0), [5.0]]),
    )
    density, speed = speed_curve(flow)
    assert density.tolist() == [12.5]
    np.testing.assert_allclose(speed, [[5.0, 1.0, 9.0]])


def test_the_rate_of_lane_changes_has_poissons_interval() -> None:
    rate = make_flow(lateral_speed=np.ones(10), kilometres=5.0).change_rate
    np.testing.assert_allclose([rate.estimate, rate.low, rate.high], [2.0, 0.959, 3.678], atol=1e-3)
    none = make_flow(lateral_speed=np.zeros(0), kilometres=1.0).change_rate
    np.testing.assert_allclose([none.low, none.high], [0.0, 3.689], atol=1e-3)


def _apart(flow: Flow, other: Flow) -> dict[str, float]:
    found = distances(flow, other)
    return {name: value for name, value in found.items() if name.endswith(("wasserstein", "ks", "error"))}
