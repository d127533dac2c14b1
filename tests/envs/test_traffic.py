"""Simulated traffic reacts to the ego, keeps Gymnasium's contract, and batched it equals the single one."""

from dataclasses import replace
from functools import cache

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from envs import ReplayEnv, TrafficEnv, TrafficVectorEnv
from tests.envs.factories import ROAD, SPEC
from tests.envs.test_replay import assert_same
from worldmodel.evaluation.episode import Outcome
from worldmodel.evaluation.metric import Side
from worldmodel.evaluation.protocol import V1, Episode, episodes
from worldmodel.scene import Recording, Renderer, Tracks
from worldmodel.scene.traffic import MIXED, RoadCurve, Scenario, TrafficRoad, simulate

SCENARIO = Scenario(
    "small", TrafficRoad.straight(num_lanes=2, length=500.0), MIXED, density=20.0, inflow=900.0
)
OPTIONS = {"history": 3, "raster_spec": SPEC, "road_spec": ROAD}


@cache
def shared() -> tuple[list[Recording], list[Renderer], list[Episode]]:
    """Two recordings that no test may change, what draws them, and their episodes."""
    recordings = simulate(SCENARIO, num_frames=70, num_scenes=2, warm_up=2.0)
    return recordings, [Renderer(one, SPEC) for one in recordings], episodes(recordings)


def make_env(num_envs: int = 4, **options) -> TrafficVectorEnv:
    recordings, renderers, found = shared()
    options = OPTIONS | {"renderers": renderers} | options
    return TrafficVectorEnv(recordings, found, num_envs, scenario=SCENARIO, **options)


def make_single(**options) -> TrafficEnv:
    recordings, renderers, found = shared()
    return TrafficEnv(recordings, found, scenario=SCENARIO, renderers=renderers, **OPTIONS, **options)


def make_straight(
    vehicles: list[tuple[float, float, float]], num_frames: int = 90
) -> tuple[Recording, Scenario]:
    """Cars at `(x, y, speed)` in frame 0 that keep their speeds, on two lanes that nobody enters."""
    scenario = Scenario("made", TrafficRoad.straight(num_lanes=2, length=900.0), inflow=0.0)
    num_frames = 90
    time = 0.1 * np.arange(num_frames)
    state = np.zeros((len(vehicles), num_frames, 4))
    for row, (x, y, speed) in enumerate(vehicles):
        state[row] = np.stack([x + speed * time, 0 * time + y, 0 * time, 0 * time + speed], axis=1)
    valid = np.ones((len(vehicles), num_frames), dtype=bool)
    tracks = Tracks(np.arange(len(vehicles)) + 10, state, np.tile([5.0, 2.0], (len(vehicles), 1)), valid)
    lane_map = RoadCurve(scenario.road).lane_map()
    return Recording("made", tracks, lane_map, 0.1, np.tile([0.0, 900.0], (num_frames, 1))), scenario


def drive(env, action: tuple[float, float]) -> dict:
    """Info at the end of episode 0, driven with a constant action."""
    env.reset(options={"episode": 0})
    done = False
    while not done:
        _, _, terminated, truncated, info = env.step(np.array(action, dtype=np.float32))
        done = terminated or truncated
    return info


# --- Reacting -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_who_follows_a_braking_ego_brakes_and_does_not_hit_it():
    recording, scenario = make_straight([(200.0, 0.0, 15.0), (160.0, 0.0, 15.0)])
    found = [one for one in episodes([recording]) if one.vehicle == 0]
    replay = drive(ReplayEnv([recording], found, **OPTIONS), (-3.0, 0.0))
    assert (replay["outcome"], replay["side"]) == (Outcome.COLLISION, Side.REAR)
    env = TrafficEnv([recording], found, scenario=scenario, **OPTIONS)
    assert drive(env, (-3.0, 0.0))["outcome"] == Outcome.TIME_OUT


def test_an_ego_that_drives_into_somebody_has_collided():
    recording, scenario = make_straight([(100.0, 0.0, 20.0), (190.0, 0.0, 1.0), (192.0, -4.0, 1.0)])
    found = [one for one in episodes([recording]) if one.vehicle == 0]
    info = drive(TrafficEnv([recording], found, scenario=scenario, **OPTIONS), (3.0, 0.0))
    assert (info["outcome"], info["side"], info["hit_id"]) == (Outcome.COLLISION, Side.FRONT, 11)


@pytest.mark.slow
def test_leaving_the_road_ends_the_episode():
    recording, scenario = make_straight([(100.0, 0.0, 20.0)])
    info = drive(TrafficEnv([recording], episodes([recording]), scenario=scenario, **OPTIONS), (0.0, 0.01))
    assert info["outcome"] == Outcome.OFF_ROAD


@pytest.mark.slow
def test_an_episode_has_the_same_drivers_every_time_and_others_with_another_seed():
    def others(seed: int, before: int) -> np.ndarray:
        env = make_env(1, seed=seed)
        env.reset(options={"episode": before})
        env.step(np.zeros((1, 2)))
        env.reset(options={"episode": 5})
        for _ in range(10):
            env.step(np.zeros((1, 2)))
        near = env.core.others(np.array([0]))
        return near.box[near.valid]

    np.testing.assert_array_equal(others(0, before=1), others(0, before=2))
    first, other = others(0, before=1), others(1, before=1)
    assert first.shape != other.shape or not np.allclose(first, other)


# --- Observations -------------------------------------------------------------------------------------------


def test_the_history_is_recorded_and_what_follows_is_live():
    env = make_env(2)
    observation, info = env.reset(options={"episode": np.array([5, 1])})
    _, renderers, found = shared()
    for slot, number in enumerate([5, 1]):
        one = found[number]
        view = observation["state"][slot, -1:, :3].astype(np.float64)
        drawn = renderers[one.recording].render(view, np.array([one.start]), np.array([one.vehicle]))
        # float32 poses move an edge by less than a grey level or two
        assert np.abs(observation["image"][slot, -1].astype(int) - drawn[0]).max() <= 2
        np.testing.assert_array_equal(info["origin"][slot], [one.recording, one.vehicle, one.start])
    for _ in range(4):
        before = observation
        observation, *_ = env.step(np.tile(np.float32([0.5, 0.002]), (2, 1)))
        np.testing.assert_array_equal(observation["image"][:, :-1], before["image"][:, 1:])


def test_the_newest_image_shows_the_others_where_they_are_now():
    recording, scenario = make_straight([(200.0, 0.0, 15.0), (207.0, 0.0, 15.0)])
    found = [one for one in episodes([recording]) if one.vehicle == 0]
    env = TrafficVectorEnv([recording], found, 2, scenario=scenario, **OPTIONS)
    env.reset(options={"episode": np.array([0, 1])})
    for _ in range(3):
        observation, *_ = env.step(np.zeros((2, 2)))
    for slot in range(2):
        now = env.core.others(np.array([slot]))
        box, speed = now.box[now.valid], now.speed[now.valid]
        state = np.concatenate([box[:, :3], speed[:, None]], axis=1)[:, None]
        tracks = Tracks(np.arange(len(box)), state, box[:, 3:], np.ones((len(box), 1), dtype=bool))
        moment = Recording("moment", tracks, env.core.lane_map, 0.1, np.zeros((1, 2)))
        ego = env.core.state[[slot], :3]
        drawn = Renderer(moment, SPEC).render(ego, np.array([0]), np.array([-1]))
        np.testing.assert_array_equal(observation["image"][[slot], -1], drawn)
    assert (observation["image"][:, -1, 1].max(axis=(1, 2)) == 255).all()


# --- The contract -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_batched_env_equals_sync_vector_env_step_by_step(mode):
    native = make_env(3, autoreset_mode=mode)
    sync = SyncVectorEnv([make_single] * 3, autoreset_mode=mode)
    assert native.observation_space == sync.observation_space
    assert native.action_space == sync.action_space
    assert_same(native.reset(seed=7), sync.reset(seed=7))
    rng = np.random.default_rng(0)
    num_over = 0
    for _ in range(20):
        action = rng.uniform([-8.0, -0.05], [4.0, 0.05], (3, 2)).astype(np.float32)
        got, expected = native.step(action), sync.step(action)
        assert_same(got, expected)
        over = got[2] | got[3]
        num_over += over.sum()
        if mode == AutoresetMode.DISABLED and over.any():
            assert_same(native.reset(options={"reset_mask": over}), sync.reset(options={"reset_mask": over}))
    assert num_over >= 1
    sync.close()


@pytest.mark.filterwarnings("ignore::UserWarning")  # it would like bounded observations
def test_gymnasium_checker_passes():
    check_env(make_single(render_mode="rgb_array"), skip_render_check=True)


@pytest.mark.filterwarnings("ignore::UserWarning")  # it would like images in one of its own layouts
def test_stable_baselines_checker_passes():
    sb3_check_env(make_single())


@pytest.mark.slow
def test_registered_ids_make_both_kinds():
    options = {"scenario": SCENARIO, "num_scenes": 1, "raster_spec": SPEC, "road_spec": ROAD}
    single = gymnasium.make("worldmodel/Traffic-v0", **options)
    batch = gymnasium.make_vec("worldmodel/Traffic-v0", 2, vectorization_mode="vector_entry_point", **options)
    assert isinstance(single.unwrapped, TrafficEnv)
    assert isinstance(batch.unwrapped, TrafficVectorEnv)
    assert single.reset(seed=3)[0]["image"].shape == (10, 3, SPEC.height, SPEC.width)


def test_errors_say_what_to_do():
    recordings, _, found = shared()
    with pytest.raises(ValueError, match="history=30 exceeds the 20 frames before"):
        make_env(1, history=30)
    wider = replace(SCENARIO, road=TrafficRoad.straight(num_lanes=3, length=500.0))
    with pytest.raises(ValueError, match="give the scenario that it was simulated with"):
        TrafficVectorEnv(recordings, found, scenario=wider, protocol=V1)
