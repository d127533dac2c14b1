"""Our traffic does what highway-env's does, to the last decision, until somebody crashes."""

import pytest
import torch
from highway_env.road.road import Road
from highway_env.vehicle.behavior import IDMVehicle
from highway_env.vehicle.kinematics import Vehicle

from tests.scene.traffic.factories import (
    DT,
    has_touched,
    make_highway,
    make_road,
    step_highway,
    to_traffic,
)
from worldmodel.scene.traffic import TrafficState, advance, advance_torch

BACKENDS = [advance, advance_torch]
CONTINUOUS = ("x", "y", "heading", "speed", "timer")


def difference(got: TrafficState, expected: TrafficState) -> float:
    """The largest in any continuous quantity; infinite where a decision differs."""
    same = torch.equal(got.lane, expected.lane) and torch.equal(got.target, expected.target)
    worst = max(float((getattr(got, name) - getattr(expected, name)).abs().max()) for name in CONTINUOUS)
    return worst if same else float("inf")


def compare(road: Road, num_steps: int) -> tuple[int, int, int]:
    """Drives highway-env and both of ours, from each of its states and from the first.

    Returns steps compared, lane changes begun and lane changes given up.
    """
    ours = make_road()
    start, drivers = to_traffic(road)
    rolled = [start] * len(BACKENDS)
    before, begun, given_up = start, 0, 0
    for t in range(num_steps):
        step_highway(road)
        after, _ = to_traffic(road)
        if has_touched(road):
            return t, begun, given_up
        for index, backend in enumerate(BACKENDS):
            rolled[index] = backend(rolled[index], drivers, ours, dt=DT)
            assert difference(rolled[index], after) < 1e-9, (t, backend)
            if t % 5 == 0:
                assert difference(backend(before, drivers, ours, dt=DT), after) < 1e-12, (t, backend)
        begun += int(((before.target == before.lane) & (after.target != before.lane)).sum())
        given_up += int(((before.target != before.lane) & (after.target == before.lane)).sum())
        before = after
    return num_steps, begun, given_up


@pytest.mark.slow
def test_twenty_vehicles_for_fifteen_seconds() -> None:
    steps, begun, _ = compare(make_highway(0, 20), 150)
    assert steps == 150
    assert begun >= 10


@pytest.mark.slow
def test_dense_traffic_gives_lane_changes_up() -> None:
    steps, begun, given_up = compare(make_highway(3, 40, spacing=0.5), 50)
    assert steps >= 30
    assert begun >= 10
    assert given_up >= 1


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "num_vehicles"), [(1, 50), (2, 50), (4, 100), (5, 100)])
def test_many_vehicles_for_fifteen_seconds(seed: int, num_vehicles: int) -> None:
    steps, begun, _ = compare(make_highway(seed, num_vehicles), 150)
    assert steps == 150
    assert begun >= 20


def make_cars(places: list[tuple[float, float, float, float]]) -> Road:
    """IDM cars at `(x, y, speed, desired speed)` in highway-env's coordinates."""
    road = make_highway(0, 0)
    for x, y, speed, desired in places:
        road.vehicles.append(IDMVehicle(road, [x, y], 0.0, speed, target_speed=desired, timer=0.95))
    return road


def test_vehicles_level_with_one_another_are_ahead_of_each_other() -> None:
    # All begin to look for another lane in the second step, when everybody is level with somebody.
    road = make_cars([(200.0, 4.0 * lane, 20.0, 20.0) for lane in range(4)] + [(230.0, 4.0, 10.0, 12.0)])
    assert compare(road, 5)[0] == 5


def test_vehicles_on_two_lanes_at_once_are_in_the_way_of_both() -> None:
    road = make_cars([(200.0, 0.0, 25.0, 30.0), (225.0, 2.2, 10.0, 10.0), (190.0, 4.0, 25.0, 30.0)])
    assert compare(road, 10)[0] == 10


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_collision_is_noticed_in_the_same_step(backend) -> None:
    # A car that brakes at its limit for one too close and much too slow.
    road = make_cars([(200.0, 4.0, 30.0, 30.0), (216.0, 4.0, 5.0, 5.0)])
    for car in road.vehicles:
        car.enable_lane_change = False
        car._is_colliding = lambda other, dt, car=car: touching_only(car, other, dt)
    state, drivers = to_traffic(road)
    drivers.changes[:] = False
    for _ in range(20):
        step_highway(road)
        state = backend(state, drivers, make_road(), dt=DT)
        assert state.crashed[0].tolist() == [car.crashed for car in road.vehicles]
    assert state.crashed.all()


def touching_only(car: Vehicle, other: Vehicle, dt: float) -> tuple:
    """highway-env's test of two boxes, without the push that it gives those about to touch."""
    touches, _, push = Vehicle._is_colliding(car, other, dt)
    return touches, False, push


@pytest.mark.parametrize("backend", BACKENDS)
def test_crashed_vehicles_roll_to_a_stop(backend) -> None:
    road = make_cars([(200.0, 4.0, 20.0, 30.0)])
    road.vehicles[0].crashed = True
    state, drivers = to_traffic(road)
    for _ in range(30):
        step_highway(road)
        state = backend(state, drivers, make_road(), dt=DT)
    assert difference(state, to_traffic(road)[0]) < 1e-12
