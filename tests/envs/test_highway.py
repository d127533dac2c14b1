"""highway-env behind our interface: exact actions, our axes, traffic that reacts, Gymnasium's contract."""

from collections.abc import Iterator
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from highway_env.road.road import Road, RoadNetwork
from highway_env.vehicle.behavior import IDMVehicle
from highway_env.vehicle.kinematics import Vehicle
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from envs import DiscreteActions, _highway_road
from envs._highway import Driver, Ego, Scenario, Simulation, curvature_of, steering_of
from envs._highway_record import recorded, simulate
from envs.highway import HighwayEnv, HighwayVectorEnv
from tests.envs.factories import ROAD, SPEC
from tests.envs.test_replay import assert_same
from worldmodel.data.synthetic import make_recording
from worldmodel.evaluation.episode import Outcome
from worldmodel.evaluation.metric import Side
from worldmodel.evaluation.protocol import Protocol, episodes
from worldmodel.scene import Channel, Recording, RoadChannel, check_consistent, sample_image

SHORT = Protocol(history=0.5)
SMALL = {"protocol": SHORT, "history": 3, "raster_spec": SPEC, "road_spec": ROAD}
FEW = {"vehicles_count": 6, "lanes_count": 3}
make_merge = partial(HighwayEnv, scenario="merge", **SMALL)
make_highway = partial(HighwayEnv, config=FEW, **SMALL)


@pytest.fixture(scope="module", autouse=True)
def short_roads() -> Iterator[None]:
    """Short maps, made once, so that their fields do not take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_highway_road, "LONGEST", 800.0)
        patch.setattr(_highway_road, "_ROADS", {})
        yield


def simulate_one(seed: int, **options) -> Recording:
    return next(iter(simulate(seed=seed, **options)))


def drive(env: HighwayEnv, action: tuple[float, float], *, seed: int = 0, num_steps: int = 1000) -> dict:
    """Info at the end of an episode driven with a constant action, and the ego's states `(T, 4)`."""
    observation, info = env.reset(seed=seed, options={"episode": seed})
    states, done = [observation["state"][-1]], False
    while not done and len(states) <= num_steps:
        observation, _, terminated, truncated, info = env.step(np.array(action, dtype=np.float32))
        states.append(env._batch.core.state[0].copy())
        done = terminated or truncated
    return info | {"states": np.array(states), "terminated": terminated}


# --- Actions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curvature", [-0.1, -0.003, 0.0, 0.02, 0.1])
def test_the_executed_path_has_the_curvature_that_was_asked_for(curvature: float):
    simulation = Simulation()
    simulation.start(Scenario("highway", FEW), seed=1)
    simulation.hand_over(simulation.own)
    path = [simulation.moment().state[simulation.own, :2]]
    for _ in range(10):
        simulation.step({simulation.own: (0.0, curvature)})
        path.append(simulation.moment().state[simulation.own, :2])
    chord = np.diff(path, axis=0)
    turned = np.diff(np.unwrap(np.arctan2(chord[:, 1], chord[:, 0])))
    np.testing.assert_allclose(turned / np.linalg.norm(chord, axis=1)[1:], curvature, atol=1e-12)


@pytest.mark.parametrize("accel", [-8.0, -1.5, 0.0, 4.0])
def test_the_executed_speed_has_the_acceleration_that_was_asked_for(accel: float):
    simulation = Simulation()
    simulation.start(Scenario("highway", FEW), seed=1)
    simulation.hand_over(simulation.own)
    before = simulation.moment().state[simulation.own]
    assert simulation.step({simulation.own: (accel, 0.0)}) == {simulation.own: (accel, 0.0)}
    now = simulation.moment().state[simulation.own]
    assert now[3] - before[3] == pytest.approx(0.1 * accel, abs=1e-12)
    assert now[0] - before[0] == pytest.approx(0.1 * before[3] * np.cos(before[2]), abs=1e-12)


def test_steering_and_curvature_undo_each_other_within_reach():
    for curvature in np.linspace(-0.17, 0.17, 11).tolist():
        assert curvature_of(steering_of(curvature)) == pytest.approx(curvature, abs=1e-15)
    reach = np.sin(np.arctan(0.5)) / 2.5
    assert reach == pytest.approx(0.1789, abs=1e-4)
    for beyond in (0.2, 1.0):
        assert curvature_of(steering_of(beyond)) == pytest.approx(reach)
        assert curvature_of(steering_of(-beyond)) == pytest.approx(-reach)


def test_at_forty_metres_per_second_the_car_is_slowed_and_says_so():
    simulation = Simulation()
    simulation.start(Scenario("highway", {**FEW, "vehicles_density": 0.1}), seed=1)
    simulation.hand_over(simulation.own)
    for _ in range(60):
        executed = simulation.step({simulation.own: (4.0, 0.0)})[simulation.own]
    speed = simulation.moment().state[simulation.own, 3]
    assert 39.9 < speed < 40.5
    assert executed[0] < 0.5


def test_actions_are_clipped_and_reported_as_executed():
    env = make_highway()
    env.reset(seed=0)
    *_, info = env.step(np.array([100.0, -1.0], dtype=np.float32))
    np.testing.assert_allclose(info["action"], [4.0, -0.1], atol=1e-12)


# --- Traffic that reacts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "cuts_in"), [(Ego, True), (Vehicle, False)])
def test_others_cut_in_only_in_front_of_an_ego_that_seems_to_want_its_speed(kind: type, cuts_in: bool):
    road = Road(RoadNetwork.straight_road_network(2, speed_limit=30.0), np_random=np.random.default_rng(0))
    slow = Driver(road, [300.0, 0.0], speed=10.0, target_speed=10.0, enable_lane_change=False)
    hindered = Driver(road, [250.0, 0.0], speed=20.0, target_speed=28.0)
    ego = kind(road, [160.0, 4.0], speed=20.0)
    ego.act({"acceleration": 0.0, "steering": 0.0})
    road.vehicles = [slow, hindered, ego]
    for _ in range(40):
        road.act()
        road.step(0.1)
    assert (hindered.target_lane_index == ("0", "1", 1)) is cuts_in
    assert (hindered.lane_index == ego.lane_index) is cuts_in


def test_who_follows_an_ego_brakes_for_it():
    simulation = Simulation()
    simulation.start(Scenario("two_way"), seed=4)
    ego = 1
    simulation.hand_over(ego)
    behind = simulation.own  # 40 m behind it, on the same lane
    speed = simulation.moment().state[behind, 3]
    for _ in range(30):
        simulation.step({ego: (-4.0, 0.0)})
    now = simulation.moment().state
    assert now[behind, 3] < speed - 8.0
    assert now[behind, 0] < now[ego, 0] - 5.0


def test_an_intersection_changes_the_drivers_of_no_other_scenario():
    wanted = (Driver.DISTANCE_WANTED, Driver.COMFORT_ACC_MAX, Driver.COMFORT_ACC_MIN)
    before = simulate_one(3, config=FEW, duration=4.0)
    shared = vars(IDMVehicle)["DISTANCE_WANTED"]
    Simulation().start(Scenario("intersection"), seed=0)
    assert wanted == (Driver.DISTANCE_WANTED, Driver.COMFORT_ACC_MAX, Driver.COMFORT_ACC_MIN)
    assert vars(IDMVehicle)["DISTANCE_WANTED"] == shared
    np.testing.assert_array_equal(simulate_one(3, config=FEW, duration=4.0).tracks.state, before.tracks.state)


# --- How an episode ends ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_ego_that_accelerates_hits_the_one_ahead():
    env = HighwayEnv(config={"vehicles_count": 15, "lanes_count": 1}, **SMALL)
    info = drive(env, (4.0, 0.0))
    assert (info["outcome"], info["side"], info["terminated"]) == (Outcome.COLLISION, Side.FRONT, True)
    assert info["hit_id"] == 1


def test_an_ego_that_turns_leaves_the_road_to_the_left():
    env = HighwayEnv(config={"vehicles_count": 0, "lanes_count": 1}, **SMALL)
    info = drive(env, (0.0, 0.01))
    assert info["outcome"] == Outcome.OFF_ROAD
    assert info["terminated"]
    # highway-env's lane 0 is the line y = 0, 4 m wide; ours ends 0.3 m before its edge.
    left = info["states"][:, 1]
    assert left[-1] > 1.7 > left[-2]


def test_time_ends_an_episode():
    env = HighwayEnv(config=FEW, duration=1.5, **SMALL)
    info = drive(env, (0.0, 0.0))
    assert (info["steps"], info["outcome"], info["terminated"]) == (15, Outcome.FINISHED, False)
    x = info["states"][:, 0]
    assert info["distance"] == pytest.approx(x[-1] - x[0], abs=1e-4)


def test_the_end_of_the_road_ends_an_episode(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_highway_road, "LONGEST", 400.0)
    env = HighwayEnv(config={"vehicles_count": 0, "lanes_count": 1}, duration=60.0, **SMALL)
    info = drive(env, (0.0, 0.0))
    assert (info["outcome"], info["terminated"]) == (Outcome.FINISHED, False)
    x = info["states"][:, 0]
    assert x[-1] > 400 - 36 > x[-2]


def test_the_lane_that_is_dropped_is_no_end_of_the_road():
    simulation = Simulation()
    simulation.start(Scenario("merge"), seed=0)
    assert set(simulation.road.ends) == {("c", "d", 0), ("c", "d", 1)}


# --- Observations -------------------------------------------------------------------------------------------


def test_the_raster_shows_everybody_where_highway_env_has_them():
    env = HighwayEnv(
        config={"vehicles_count": 25, "vehicles_density": 2}, protocol=SHORT, history=3, road_spec=ROAD
    )
    env.reset(options={"episode": 5})
    for _ in range(3):
        observation, *_ = env.step(np.array([0.0, 0.001], dtype=np.float32))
    core = env._batch.core
    now, ego = core.moments[0][-1], core.state[0]
    others = now.state[now.number != core.vehicle[0]]
    away = others[:, :2] - ego[:2]
    cos, sin = np.cos(ego[2]), np.sin(ego[2])
    local = np.stack([cos * away[:, 0] + sin * away[:, 1], cos * away[:, 1] - sin * away[:, 0]], axis=1)
    spec = env._batch.raster_spec
    seen = (np.abs(local) < [spec.length_ahead - 3, spec.length_aside - 1]).all(axis=1)
    assert seen.sum() >= 2
    image = observation["image"][-1, Channel.VEHICLES] / 255.0
    points = torch.from_numpy(local[seen])[None, None].float()
    grey = sample_image(torch.from_numpy(image)[None, None].float(), points, spec)
    assert (grey > 0.95).all()
    empty = sample_image(torch.from_numpy(image)[None, None].float(), torch.zeros(1, 1, 1, 2), spec)
    assert empty.item() == 0.0  # the ego is not drawn


@pytest.mark.slow
def test_the_history_is_what_was_simulated_before_the_hand_over():
    env = make_merge()
    observation, _ = env.reset(options={"episode": 9})
    simulation = Simulation()
    simulation.start(Scenario("merge"), seed=9)
    states = []
    for _ in range(5):
        states.append(simulation.moment().state[simulation.own])
        simulation.step({})
    np.testing.assert_array_equal(observation["state"], np.float32(states[-3:]))


def test_the_road_patch_knows_the_lane():
    env = HighwayEnv(config={"vehicles_count": 0, "lanes_count": 3, "initial_lane_id": 1}, **SMALL)
    observation, _ = env.reset(seed=0)
    row, column = round(ROAD.ahead / ROAD.along), round(ROAD.aside / ROAD.across)
    here = observation["road"][:, row, column]
    assert here[RoadChannel.LANE] == pytest.approx(0.0, abs=1e-3)
    assert here[RoadChannel.EDGE] == pytest.approx(6.0, abs=1e-3)
    assert here[RoadChannel.HEADING] == pytest.approx(0.0, abs=1e-3)
    marking = observation["road"][RoadChannel.LANE, row, column + round(2.0 / ROAD.across)]
    assert marking == pytest.approx(1.0, abs=0.02)


def test_right_in_highway_env_is_right_in_ours():
    simulation = Simulation()
    simulation.start(Scenario("merge"), seed=0)
    lanelets = simulation.road.lane_map.lanelets
    assert len(lanelets) == 9
    for one in lanelets:
        ahead, aside = one.left[1] - one.left[0], one.right[0] - one.left[0]
        assert ahead[0] * aside[1] - ahead[1] * aside[0] < 0
    # The ramp comes from the right of the main road, whose lanes are centred at y = 0 and -4.
    assert min(one.right[:, 1].min() for one in lanelets) == pytest.approx(-16.5)


# --- The contract -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_batched_env_equals_sync_vector_env_step_by_step(mode: AutoresetMode):
    options = {"scenario": "merge", "duration": 1.0, **SMALL}
    native = HighwayVectorEnv(2, autoreset_mode=mode, **options)
    sync = SyncVectorEnv([partial(HighwayEnv, **options)] * 2, autoreset_mode=mode)
    assert native.single_observation_space == sync.single_observation_space
    assert native.action_space == sync.action_space
    assert_same(native.reset(seed=7), sync.reset(seed=7))
    rng, num_over = np.random.default_rng(0), 0
    for _ in range(14):
        action = rng.uniform([-8.0, -0.02], [4.0, 0.02], (2, 2)).astype(np.float32)
        got, expected = native.step(action), sync.step(action)
        assert_same(got, expected)
        over = got[2] | got[3]
        num_over += over.sum()
        if mode == AutoresetMode.DISABLED and over.any():
            assert_same(native.reset(options={"reset_mask": over}), sync.reset(options={"reset_mask": over}))
    assert num_over >= 2
    sync.close()


def test_the_same_seed_gives_the_same_scene_whatever_ran_before():
    env = make_highway()
    first = drive(env, (0.5, 0.0), seed=3, num_steps=10)
    drive(env, (-2.0, 0.002), seed=4, num_steps=10)
    again = drive(env, (0.5, 0.0), seed=3, num_steps=10)
    np.testing.assert_array_equal(again["states"], first["states"])
    assert_same(env.reset(seed=11), make_highway().reset(seed=11))
    assert env.reset(seed=11)[1]["episode_id"] != env.reset(seed=12)[1]["episode_id"]


@pytest.mark.filterwarnings("ignore::UserWarning")  # it would like bounded spaces
def test_gymnasium_checker_passes():
    check_env(HighwayEnv(scenario="merge", render_mode="rgb_array", **SMALL), skip_render_check=True)


@pytest.mark.filterwarnings("ignore::UserWarning")  # it would like images in a layout of its own
def test_stable_baselines_checker_passes():
    sb3_check_env(make_merge())
    sb3_check_env(DiscreteActions(make_merge()))


def test_registered_ids_make_both_kinds():
    single = gymnasium.make("worldmodel/Highway-v0", scenario="merge", **SMALL)
    batch = gymnasium.make_vec(
        "worldmodel/Highway-v0", 2, vectorization_mode="vector_entry_point", scenario="merge", **SMALL
    )
    assert isinstance(single.unwrapped, HighwayEnv)
    assert isinstance(batch.unwrapped, HighwayVectorEnv)
    assert single.reset(seed=3)[0]["image"].shape == (3, 3, SPEC.height, SPEC.width)


def test_discrete_actions_are_pairs():
    env = DiscreteActions(make_merge(), accel=[-1.0, 1.0], curvature=[-0.02, 0.0, 0.02])
    assert env.action_space.n == 6
    env.reset(seed=0)
    *_, info = env.step(env.action_space.dtype.type(3))
    np.testing.assert_allclose(info["action"], [1.0, -0.02], atol=1e-9)
    with pytest.raises(ValueError, match="choose smaller ones"):
        DiscreteActions(make_merge(), accel=[100.0])


# --- Several egos -------------------------------------------------------------------------------------------


def test_egos_of_a_scene_meet_each_other_and_end_together():
    config = {"vehicles_count": 5, "lanes_count": 1}
    env = HighwayVectorEnv(4, num_controlled=2, config=config, autoreset_mode="Disabled", **SMALL)
    _, info = env.reset(seed=5)
    assert info["episode_id"][0] == info["episode_id"][1] != info["episode_id"][2] == info["episode_id"][3]
    leader, follower = np.argsort(env.core.state[:2, 0])[::-1]
    actions = np.zeros((4, 2), dtype=np.float32)
    actions[leader, 0], actions[follower, 0] = -8.0, 4.0
    for _ in range(40):
        *_, terminated, truncated, info = env.step(actions)
        if (terminated | truncated).any():
            break
    assert terminated[:2].all() or truncated[:2].any()
    assert (terminated | truncated).tolist() == [True, True, False, False]
    hit = info["hit_id"][follower]
    assert hit == env.core.vehicle[leader]
    assert info["outcome"][follower] == Outcome.COLLISION
    with pytest.raises(ValueError, match=r"slots \[0, 1\] share a scene"):
        env.reset(options={"reset_mask": np.array([True, False, False, False])})
    env.reset(options={"reset_mask": np.array([True, True, False, False])})
    env.step(np.zeros((4, 2), dtype=np.float32))


def test_an_ego_whose_partner_crashes_is_truncated():
    env = HighwayVectorEnv(2, num_controlled=2, config=FEW, autoreset_mode="Disabled", **SMALL)
    env.reset(seed=5)
    for _ in range(60):
        *_, terminated, truncated, _info = env.step(np.array([[0.0, 0.02], [0.0, 0.0]], dtype=np.float32))
        if terminated.any():
            break
    assert (terminated.tolist(), truncated.tolist()) == ([True, False], [False, True])


# --- Scenes that were recorded ------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", ["highway", "merge", "two_way"])
def test_a_recorded_scene_is_highway_envs_and_obeys_our_integrator(scenario: str):
    config = FEW if scenario == "highway" else {}
    recording = simulate_one(2, scenario=scenario, config=config, duration=5.0)
    check_consistent(recording)
    simulation = Simulation()
    simulation.start(Scenario(scenario, config), seed=2)
    moments = [simulation.moment()]
    for _ in range(recording.num_frames - 1):
        simulation.step({})
        moments.append(simulation.moment())
    raw = recorded(moments, simulation.road)
    valid = recording.tracks.valid
    miss = np.linalg.norm((recording.tracks.state - raw.tracks.state)[valid][:, :2], axis=1)
    assert miss.max() < 0.05
    assert valid.sum() == raw.tracks.valid.sum()
    assert Scenario.parse(recording) == (Scenario(scenario, config), 2)


def test_an_episode_goes_on_where_its_recording_hands_over():
    recordings = [simulate_one(seed, config=FEW, duration=5.0) for seed in (2, 3)]
    found = [one for one in episodes(recordings, protocol=SHORT) if one.start == 14]
    env = HighwayVectorEnv(
        2, recordings=recordings, episodes=found, autoreset_mode="Disabled", **(SMALL | {"config": FEW})
    )
    numbers = np.array([1, len(found) - 1])
    observation, info = env.reset(options={"episode": numbers})
    for slot, one in enumerate(found[number] for number in numbers):
        track = recordings[one.recording].tracks.state[one.vehicle]
        np.testing.assert_array_equal(info["origin"][slot], [one.recording, one.vehicle, one.start])
        np.testing.assert_allclose(observation["state"][slot, :, :2], track[12:15, :2], atol=1e-3)
        assert info["human_distance"][slot] == one.human_distance


def test_a_recording_of_something_else_is_refused():
    recording = make_recording()
    with pytest.raises(ValueError, match=r"says nothing of a highway-env scene.*env=replay"):
        HighwayVectorEnv(1, recordings=[recording], episodes=episodes([recording]))
    other = simulate_one(2, config=FEW, duration=4.0)
    other.tracks.state[..., 0] += 1.0
    env = HighwayVectorEnv(1, recordings=[other], episodes=episodes([other], protocol=SHORT), **SMALL)
    with pytest.raises(ValueError, match=r"is 1 m from its recording at the hand-over"):
        env.reset(seed=0)


# --- Bad input ----------------------------------------------------------------------------------------------


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="expected one of highway, merge"):
        HighwayEnv(scenario="motorway")
    with pytest.raises(ValueError, match="which are ours here"):
        HighwayEnv(config={"policy_frequency": 5})
    with pytest.raises(ValueError, match="scenario 'merge' has no lanes_count"):
        make = HighwayEnv(scenario="merge", config={"lanes_count": 5}, **SMALL)
        make.reset(seed=0)
    with pytest.raises(ValueError, match="choose a multiple"):
        HighwayVectorEnv(3, num_controlled=2)
    with pytest.raises(ValueError, match="history=30 exceeds the 20 frames"):
        HighwayEnv(history=30)
    env = HighwayVectorEnv(8, num_controlled=8, scenario="merge", **SMALL)
    with pytest.raises(ValueError, match="has 8 vehicles that reach"):
        env.reset(seed=0)


# --- Learning -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_stable_baselines_trains_on_it():
    from stable_baselines3 import DQN, PPO

    options = {"scenario": "merge", "duration": 3.0, **SMALL}
    ppo = PPO("MultiInputPolicy", HighwayEnv(**options), n_steps=64, batch_size=32, n_epochs=2, seed=0)
    before = [one.clone() for one in ppo.policy.parameters()]
    ppo.learn(128)
    assert ppo.num_timesteps == 128
    assert any((one != old).any() for one, old in zip(ppo.policy.parameters(), before, strict=True))
    env = DiscreteActions(HighwayEnv(**options))
    dqn = DQN("MultiInputPolicy", env, learning_starts=32, buffer_size=200, train_freq=4, seed=0)
    before = [one.clone() for one in dqn.q_net.parameters()]
    dqn.learn(96)
    assert dqn.num_timesteps == 96
    assert any((one != old).any() for one, old in zip(dqn.q_net.parameters(), before, strict=True))
    action, _ = dqn.predict(env.reset(seed=1)[0])
    assert env.action_space.contains(action)
