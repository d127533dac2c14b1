"""Roads, populations, and recordings of simulated traffic."""

from dataclasses import replace

import numpy as np
import pytest

from worldmodel.scene import X, Y, check_consistent, validate
from worldmodel.scene.traffic import (
    DriverType,
    LaneEnd,
    Population,
    RoadCurve,
    Scenario,
    Simulation,
    Spread,
    TrafficLane,
    TrafficRoad,
    simulate,
)
from worldmodel.scene.traffic.inflow import Inflow

GENTLE = {"lateral_time": Spread(2.4), "heading_time": Spread(0.6)}
CARS = DriverType(desired_speed=Spread(25.0, 3.0), gap=Spread(2.0), **GENTLE)
TRUCKS = DriverType(share=0.25, length=Spread(12.0), desired_speed=Spread(20.0), **GENTLE)
MIXED = Population((CARS, TRUCKS))


def make_curved(length: float = 500.0, num_lanes: int = 2) -> TrafficRoad:
    turn = np.linspace(0.0, 600.0, 80)
    reference = np.stack([turn, 30.0 * np.sin(turn / 120.0)], axis=1)
    return TrafficRoad((TrafficLane(),) * num_lanes, length, reference=reference)


def make_merge() -> TrafficRoad:
    """Two lanes and an on-ramp beside them, which may be left between 100 and 250 m and then is over."""
    ramp = TrafficLane(end=250.0, kind=LaneEnd.CLOSED, crossing=(100.0, 250.0), speed_limit=20.0)
    return TrafficRoad((TrafficLane(), TrafficLane(), ramp), 500.0)


def make_exit() -> TrafficRoad:
    off = TrafficLane(start=150.0, end=350.0, kind=LaneEnd.EXIT)
    return TrafficRoad((TrafficLane(), TrafficLane(), off), 500.0)


ROADS = {
    "straight": TrafficRoad.straight(num_lanes=3, length=500.0),
    "ring": TrafficRoad.ring(num_lanes=2, length=600.0),
    "curve": make_curved(),
    "merge": make_merge(),
}


# --- Roads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("road", [ROADS["straight"], ROADS["ring"], ROADS["curve"]], ids=str)
def test_the_way_to_the_world_and_back(road: TrafficRoad) -> None:
    curve, rng = RoadCurve(road), np.random.default_rng(0)
    pose = np.stack([rng.uniform(0, 490, 50), rng.uniform(-8, 2, 50), rng.uniform(-1, 1, 50)], axis=1)
    np.testing.assert_allclose(curve.to_road(curve.to_world(pose)), pose, atol=1e-6)


def test_a_ring_is_a_circle() -> None:
    curve = RoadCurve(TrafficRoad.ring(num_lanes=2, length=2 * np.pi * 100.0))
    turn = np.linspace(0.0, 6.0, 20)
    world = curve.to_world(np.stack([100.0 * turn, 0 * turn - 4.0, 0 * turn], axis=1))
    np.testing.assert_allclose(np.hypot(world[:, 0], world[:, 1] - 100.0), 104.0, atol=1e-6)
    np.testing.assert_allclose(np.unwrap(world[:, 2]), turn, atol=1e-6)


def test_the_reference_line_is_measured_by_its_length() -> None:
    curve = RoadCurve(make_curved())
    pose = np.zeros((2001, 3))
    pose[:, 0] = np.linspace(0.0, 500.0, 2001)
    steps = np.linalg.norm(np.diff(curve.to_world(pose)[:, :2], axis=0), axis=1)
    np.testing.assert_allclose(steps, 0.25, rtol=1e-3)


@pytest.mark.parametrize("name", ROADS)
def test_lanes_are_where_their_vehicles_drive(name: str) -> None:
    road = ROADS[name]
    curve = RoadCurve(road)
    lane_map = curve.lane_map()
    for number, row in enumerate(road.table):
        x = np.linspace(row["start"] + 5.0, row["end"] - 5.0, 20)
        world = curve.to_world(np.stack([x, 0 * x + row["centre"], 0 * x], axis=1))
        found = lane_map.query(world[:, :2])
        assert (found.lanelet == number).all()
        np.testing.assert_allclose(found.offset, 0.0, atol=0.05)
        np.testing.assert_allclose(found.half_width, 2.0, atol=0.05)
        turn = (found.heading - world[:, 2] + np.pi) % (2 * np.pi) - np.pi
        np.testing.assert_allclose(turn, 0.0, atol=0.02)


def test_a_lane_that_is_over_tapers_off() -> None:
    lane_map = RoadCurve(make_merge()).lane_map()
    across = np.array([[240.0, -9.5], [280.0, -7.0], [280.0, -9.5], [320.0, -7.0]])
    assert lane_map.contains(across).tolist() == [True, True, False, False]


def test_a_reference_line_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="prolong the line or shorten the road"):
        RoadCurve(make_curved(length=900.0))


# --- Populations --------------------------------------------------------------------------------------------


def test_a_population_has_its_shares_and_its_means() -> None:
    drawn = MIXED.draw(np.random.default_rng(0), 4000)
    is_truck = drawn["length"] == 12.0
    assert is_truck.mean() == pytest.approx(0.2, abs=0.02)
    assert drawn["desired_speed"][~is_truck].mean() == pytest.approx(25.0, abs=0.2)
    assert drawn["desired_speed"].min() >= 19.0
    assert (drawn["exit"] == -1).all()


def test_aggressive_drivers_are_so_in_everything() -> None:
    drawn = Population((DriverType(aggressiveness=0.3),)).draw(np.random.default_rng(0), 500)
    correlation = np.corrcoef([drawn["headway"], drawn["min_gain"], drawn["accel"], drawn["safe_decel"]])
    np.testing.assert_allclose(correlation[0], [1.0, 1.0, -1.0, -1.0], atol=0.1)


def test_only_a_share_leaves_and_only_where_there_is_an_exit() -> None:
    leaving = replace(MIXED, exit_share=0.3)
    assert (leaving.draw(np.random.default_rng(0), 100)["exit"] == -1).all()
    drawn = leaving.draw(np.random.default_rng(0), 2000, exits=(2,))["exit"]
    assert set(drawn) == {-1, 2}
    assert (drawn == 2).mean() == pytest.approx(0.3, abs=0.03)


# --- Recordings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROADS)
def test_recordings_are_sound_and_obey_our_integrator(name: str) -> None:
    scenario = Scenario(name, ROADS[name], MIXED, inflow=900.0)
    recording = simulate(scenario, num_frames=40, warm_up=6.0)[0]
    check_consistent(recording)
    assert validate(recording) == []
    assert recording.tracks.num_vehicles > 8
    assert recording.name == f"{name}-0"


def test_a_recording_has_the_simulated_positions() -> None:
    scenario = Scenario("straight", ROADS["straight"], MIXED)
    tracks = simulate(scenario, num_frames=30, warm_up=3.0)[0].tracks
    simulation = Simulation(scenario, num_scenes=1)
    simulation.fill(seeds=[0])
    for _ in range(30):
        simulation.step()
    for frame in range(30):
        rows = np.flatnonzero(simulation.state.valid[0].numpy())
        vehicle = np.searchsorted(tracks.ids, simulation.ids[0, rows])
        assert tracks.valid[vehicle, frame].all()
        assert tracks.valid[:, frame].sum() == len(rows)
        for column, part in ((X, simulation.state.x), (Y, simulation.state.y)):
            np.testing.assert_allclose(tracks.state[vehicle, frame, column], part[0, rows], atol=1e-6)
        simulation.step()


def test_a_scene_is_the_same_whatever_their_number() -> None:
    population = Population((replace(CARS, noise_std=Spread(0.3)),))
    scenario = Scenario("straight", ROADS["straight"], population)
    together = simulate(scenario, num_frames=20, num_scenes=3, seed=4, warm_up=2.0)[2]
    alone = simulate(scenario, num_frames=20, seed=6, warm_up=2.0)[0]
    assert together.name == alone.name
    np.testing.assert_array_equal(together.tracks.ids, alone.tracks.ids)
    np.testing.assert_array_equal(together.tracks.valid, alone.tracks.valid)
    np.testing.assert_array_equal(together.tracks.state, alone.tracks.state)


def test_nobody_comes_or_goes_on_a_ring() -> None:
    simulation = Simulation(Scenario("ring", ROADS["ring"], MIXED, density=25.0), num_scenes=2)
    simulation.fill(seeds=[0, 1])
    before = simulation.state.valid.clone()
    for _ in range(150):
        simulation.step()
    assert simulation.num_crashed.sum() == 0
    assert (simulation.state.valid == before).all()


@pytest.mark.slow
def test_ramp_traffic_merges_before_its_lane_is_over() -> None:
    simulation = Simulation(Scenario("merge", make_merge(), MIXED, density=10.0, inflow=500.0), num_scenes=3)
    simulation.fill(seeds=range(3))
    merged, was_on_ramp = set(), set()
    for _ in range(300):
        simulation.step()
        state = simulation.state
        on_ramp = state.valid & (state.lane == 2)
        assert not (on_ramp & (state.x > 265.0)).any()
        for scene, row in np.argwhere(state.valid.numpy()).tolist():
            key = (scene, int(simulation.ids[scene, row]))
            if on_ramp[scene, row]:
                was_on_ramp.add(key)
            elif key in was_on_ramp:
                assert state.x[scene, row] > 95.0
                merged.add(key)
    assert len(merged) >= 5


def test_who_wants_to_leave_leaves_by_the_exit() -> None:
    population = replace(MIXED, exit_share=0.5)
    simulation = Simulation(
        Scenario("exit", make_exit(), population, density=8.0, inflow=400.0), num_scenes=4
    )
    simulation.fill(seeds=range(4))
    left = stayed = missed = 0
    for _ in range(220):
        before, x = simulation.state.valid.clone(), simulation.state.x.clone()
        leaves, crashed = simulation.drivers.exit.clone() == 2, simulation.num_crashed.sum()
        simulation.step()
        gone = before & ~simulation.state.valid
        if simulation.num_crashed.sum() == crashed:
            left += int((gone & leaves & (x < 400.0)).sum())
            missed += int((gone & leaves & (x > 400.0)).sum())
            stayed += int((gone & ~leaves & (x > 400.0)).sum())
            assert not (gone & ~leaves & (x < 400.0)).any()
    assert left >= 5
    assert stayed >= 5
    assert missed <= left


# --- Inflow -------------------------------------------------------------------------------------------------


def make_inflow(num_scenes: int, *, interval: float = 2.0) -> tuple[Inflow, list[np.random.Generator]]:
    generators = [np.random.default_rng(seed) for seed in range(num_scenes)]
    inflow = Inflow(MIXED, num_scenes=num_scenes, entries=np.array([True, True, False]), interval=interval)
    for scene, rng in enumerate(generators):
        inflow.begin(scene, rng)
    return inflow, generators


def arrivals(scenes: list[int], *, steps: int = 2000) -> dict[int, list[tuple[int, int, float]]]:
    """Step, lane and desired speed of everybody who is due, by scene; each leaves his queue at once."""
    inflow, generators = make_inflow(3)
    found: dict[int, list[tuple[int, int, float]]] = {scene: [] for scene in scenes}
    for step in range(steps):
        scene, lane = inflow.wait(np.array(scenes), 0.1)
        speed = inflow.first(scene, lane)["desired_speed"]
        inflow.leave(scene, lane, generators)
        for b, m, v in zip(scene.tolist(), lane.tolist(), speed.tolist(), strict=True):
            found[b].append((step, m, v))
    return found


def test_drivers_arrive_at_the_rate_by_the_lanes_that_are_entries() -> None:
    found = arrivals([0, 1, 2])
    num = sum(len(one) for one in found.values())
    assert num == pytest.approx(3 * 2 * 200.0 / 2.0, rel=0.15)  # more than the queues hold
    assert {lane for one in found.values() for _, lane, _ in one} == {0, 1}
    assert len({speed for one in found.values() for *_, speed in one}) > 0.7 * num  # trucks are alike


def test_who_arrives_does_not_depend_on_the_other_scenes() -> None:
    assert arrivals([1]) == {1: arrivals([0, 1, 2])[1]}


def test_nobody_arrives_where_there_is_no_inflow() -> None:
    inflow, _ = make_inflow(2, interval=np.inf)
    assert len(inflow.wait(np.arange(2), 1e9)[0]) == 0


def test_nobody_enters_closer_than_he_would_follow() -> None:
    # The one ahead stands or drives; the entering driver takes his speed, or waits.
    type_ = DriverType(headway=Spread(1.0), gap=Spread(2.0), desired_speed=Spread(20.0))
    scenario = Scenario("one", TrafficRoad.straight(num_lanes=1, length=300.0), Population((type_,)))
    simulation = Simulation(replace(scenario, inflow=1e6), num_scenes=4, capacity=4)
    for scene, (x, speed) in enumerate([(40.0, 15.0), (20.0, 15.0), (9.0, 0.0), (7.5, 0.0)]):
        pose = np.array([[x, 0.0, 0.0, speed]])
        simulation.put(scene, pose, np.array([[5.0, 2.0]]), ids=np.array([0]), seed=scene)
    simulation._enter(np.arange(4))
    entered = [simulation.state.speed[b, simulation.ids[b] == 1].tolist() for b in range(4)]
    # Room for 33 s m, 13 m (slower than he is), 2 m, 0.5 m.
    assert entered == [[17.0], [], [2.0], []]


def test_nobody_enters_beside_who_is_changing_to_the_lane() -> None:
    scenario = Scenario("two", TrafficRoad.straight(num_lanes=2, length=300.0), inflow=1e6)
    simulation = Simulation(scenario, num_scenes=2, capacity=4)
    for scene, drift in enumerate((0.0, 1.0)):  # on the right lane, 3.6 m from the left one's centre
        pose = np.array([[12.0, -3.6, np.arcsin(drift / 20.0), 20.0]])
        simulation.put(scene, pose, np.array([[5.0, 2.0]]), ids=np.array([0]), seed=scene)
    simulation._enter(np.arange(2))
    state = simulation.state
    assert [int((state.valid & (state.lane == 0))[scene].sum()) for scene in range(2)] == [1, 0]


@pytest.mark.slow
def test_drivers_without_noise_do_not_touch() -> None:
    scenario = Scenario("straight", TrafficRoad.straight(num_lanes=3, length=500.0), MIXED, 25.0, 1500.0)
    simulation = Simulation(scenario, num_scenes=8)
    simulation.fill(seeds=range(8))
    for _ in range(400):
        simulation.step()
    assert simulation.num_crashed.sum() == 0


def test_no_more_enter_than_there_are_rows() -> None:
    scenario = Scenario("wide", TrafficRoad.straight(num_lanes=4, length=300.0), inflow=1e6)
    simulation = Simulation(scenario, num_scenes=2, capacity=3)
    for scene in range(2):
        simulation._begin(scene, scene)
    simulation._enter(np.arange(2))
    assert simulation.state.valid.sum(1).tolist() == [3, 3]
    assert [sorted(row) for row in simulation.ids.tolist()] == [[0, 1, 2], [0, 1, 2]]
