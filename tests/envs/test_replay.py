"""The replay environment judges rightly, keeps Gymnasium's contract, and its batched form equals the single
one."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from envs import ReplayEnv, ReplayVectorEnv
from envs._core import ReplayCore
from tests.envs.factories import (
    ROAD,
    SPEC,
    drive,
    driver_actions,
    make_env,
    make_single,
    make_straight,
    shared,
)
from worldmodel.data.synthetic import make_recording
from worldmodel.evaluation.episode import Outcome
from worldmodel.evaluation.metric import Side
from worldmodel.evaluation.protocol import V1, episodes


def assert_same(got, expected, where: str = "") -> None:
    assert type(got) is type(expected), where
    if isinstance(got, dict):
        assert set(got) == set(expected), where
        for key in got:
            assert_same(got[key], expected[key], f"{where}.{key}")
    elif isinstance(got, list | tuple) or (isinstance(got, np.ndarray) and got.dtype == object):
        for index, (one, other) in enumerate(zip(got, expected, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    elif isinstance(got, np.ndarray):
        assert got.dtype == expected.dtype, where
        np.testing.assert_array_equal(got, expected, err_msg=where)
    else:
        assert got == expected, where


# --- What ends an episode -----------------------------------------------------------------------------------


def test_an_ego_that_brakes_is_hit_from_behind():
    recording = make_straight([(60.0, 2.0, 10.0), (40.0, 2.0, 10.0)])
    info = drive(recording, (-8.0, 0.0))
    # The gap of 16 m, and the 0.1 m taken off two sides, closes by 4 t^2 until the ego stands at 1.25 s, then
    # at 10 m/s.
    closed = 16.2
    braking = np.cumsum(8.0 * 0.1 * np.arange(1, 14) * 0.1)
    assert braking[-1] < closed
    assert info["outcome"] == Outcome.COLLISION
    assert info["side"] == Side.REAR
    assert info["hit_id"] == 11
    assert info["terminated"]


def test_an_ego_that_accelerates_hits_the_one_ahead_exactly_when_the_gap_closes():
    recording = make_straight([(20.0, 2.0, 10.0), (30.0, 2.0, 10.0)])
    info = drive(recording, (2.0, 0.0))
    # Bumper to bumper 6 m, 6.2 m for shrunk boxes; after n steps the ego has gained 2 dt^2 n (n + 1) / 2.
    gained = 0.01 * np.arange(1, 60) * np.arange(2, 61)
    assert info["steps"] == int(np.argmax(gained > 6.2)) + 1
    assert info["outcome"] == Outcome.COLLISION
    assert info["side"] == Side.FRONT


def test_an_ego_that_swerves_touches_its_neighbour_with_its_side():
    recording = make_straight([(20.0, 2.0, 10.0), (20.0, 6.0, 10.0)])
    info = drive(recording, (0.0, 0.02))
    assert info["outcome"] == Outcome.COLLISION
    assert info["side"] == Side.SIDE


@pytest.mark.slow
def test_boxes_that_come_closer_than_twice_the_shrink_do_not_collide():
    # Neighbours 2 m wide whose centres are 1.85 m apart overlap by 0.15 m, less than the 0.2 m taken off.
    recording = make_straight([(20.0, 2.0, 10.0), (20.0, 3.85, 10.0)])
    assert drive(recording, (0.0, 0.0))["outcome"] == Outcome.FINISHED
    closer = make_straight([(20.0, 2.0, 10.0), (20.0, 3.75, 10.0)])
    assert drive(closer, (0.0, 0.0))["outcome"] == Outcome.COLLISION


def test_an_ego_leaves_the_road_when_its_centre_is_within_the_margin():
    info = drive(make_straight([(20.0, 2.0, 10.0)]), (0.0, -0.02))
    assert info["outcome"] == Outcome.OFF_ROAD
    assert info["off_road"]
    assert info["terminated"]
    # y = 2 m, road margin 0.3 m; heading after n steps is -0.02 * 10 * 0.1 n, sideways 1 m a step times its
    # sine.
    y = 2.0 + np.cumsum(np.sin(-0.02 * np.arange(1, 60)))
    assert info["steps"] == int(np.argmax(y < 0.3)) + 1


def test_the_edge_of_the_covered_road_ends_the_episode_as_finished():
    recording = make_straight([(20.0, 2.0, 5.0)], num_frames=300, length=100.2)
    info = drive(recording, (0.0, 0.0))
    # Handed over at frame 19; 36 m before the edge is x = 64.2 m, and x = 20 + 0.5 f is beyond it from frame
    # 89 on.
    assert (info["steps"], info["outcome"], info["terminated"]) == (70, Outcome.FINISHED, False)


@pytest.mark.slow
def test_who_is_ahead_of_the_driver_where_the_covered_road_ends_has_finished():
    """Until frame 80 the road is covered up to 136 m; the driver passes there a metre short of the end, and
    goes on where the next stretch is covered."""
    recording = make_straight([(20.0, 2.0, 10.0)], num_frames=150)
    recording = replace(
        recording, coverage=np.where(np.arange(150)[:, None] < 80, [0.0, 136.0], [0.0, 400.0])
    )
    info = drive(recording, (0.1, 0.0))
    # From 39 m at 10 m/s: 39 + 10 t + .05 t^2 is beyond 136 - 36 m after 5.93 s.
    assert (info["steps"], info["outcome"], info["terminated"]) == (60, Outcome.FINISHED, False)
    assert info["distance"] < 0.5 * info["human_distance"] == pytest.approx(65.0)
    assert drive(recording, (-0.1, 0.0))["steps"] == 130
    assert drive(recording, (-0.5, 0.0))["outcome"] == Outcome.TIME_OUT


@pytest.mark.slow
def test_the_recording_ends_the_episode():
    recording = make_straight([(20.0, 2.0, 10.0)], num_frames=60)
    info = drive(recording, (0.0, 0.0))
    assert (info["steps"], info["outcome"]) == (40, Outcome.FINISHED)
    assert info["distance"] == pytest.approx(40.0)
    assert info["human_distance"] == pytest.approx(40.0)


def test_a_slow_ego_is_safe_but_out_of_time():
    info = drive(make_straight([(20.0, 2.0, 10.0)], num_frames=60), (-3.0, 0.0))
    assert info["outcome"] == Outcome.TIME_OUT
    assert not info["terminated"]
    assert info["reverse"]


def test_the_vehicle_that_the_ego_replaces_is_not_in_its_way():
    recording = make_straight([(20.0, 2.0, 10.0), (200.0, 2.0, 10.0)])
    assert drive(recording, (-0.1, 0.0))["outcome"] == Outcome.FINISHED


def test_metrics_of_a_constant_drive():
    info = drive(make_straight([(20.0, 2.0, 12.0), (40.0, 2.0, 10.0)], num_frames=60), (0.0, 0.0))
    # The gap is 16 m at frame 0 and closes at 2 m/s: 4.2 m at frame 59, so 2.1 s.
    assert info["min_ttc"] == pytest.approx(2.1)
    assert info["mean_jerk"] == 0.0


def test_actions_are_clipped_to_what_a_car_can_do():
    env = make_env(1)
    env.reset(seed=0)
    *_, info = env.step(np.array([[100.0, -1.0]], dtype=np.float32))
    np.testing.assert_allclose(info["action"], [[4.0, -0.1]])


# --- Log replay ---------------------------------------------------------------------------------------------


def test_the_drivers_own_actions_reproduce_the_recording():
    recording = make_recording(seed=3)
    found = episodes([recording])
    core = ReplayCore([recording], found, protocol=V1, num_slots=len(found))
    slots = np.arange(len(found))
    actions = [driver_actions(recording, one) for one in found]
    core.start(slots, slots)
    for t in range(min(map(len, actions))):
        core.step(slots, np.stack([one[t] for one in actions]))
        expected = np.stack([recording.tracks.state[one.vehicle, one.start + t + 1] for one in found])
        np.testing.assert_allclose(core.state, expected, atol=1e-9)


def test_an_inconsistent_recording_is_refused():
    recording = make_recording(seed=3)
    recording.tracks.state[2, 40:, 0] += 0.5
    with pytest.raises(ValueError, match=r"vehicle 102 misses frame 40 by 0\.\d+ m.*make_consistent"):
        ReplayCore([recording], episodes([recording]), protocol=V1, num_slots=1)


# --- Observations -------------------------------------------------------------------------------------------


def test_the_rolling_history_equals_a_fresh_draw_at_the_egos_poses():
    env = make_env(3)
    observation, info = env.reset(seed=4)
    for _ in range(7):
        before = observation
        observation, *_, info = env.step(np.tile(np.float32([0.5, 0.002]), (3, 1)))
        np.testing.assert_array_equal(observation["image"][:, :-1], before["image"][:, 1:])
        np.testing.assert_array_equal(observation["state"][:, :-1], before["state"][:, 1:])
    for slot in range(3):
        recording, vehicle, frame = info["origin"][slot]
        view = env.core.state[slot : slot + 1, :3]
        fresh = env._scenery.renderers[recording].render(view, np.array([frame]), np.array([vehicle]))
        np.testing.assert_array_equal(observation["image"][slot, -1], fresh[0])


def test_the_history_before_the_hand_over_is_recorded():
    env = make_env(2)
    observation, info = env.reset(options={"episode": np.array([5, 1])})
    for slot, number in enumerate([5, 1]):
        one = env.episodes[number]
        track = env.recordings[one.recording].tracks.state[one.vehicle, one.start - 2 : one.start + 1]
        np.testing.assert_array_equal(observation["state"][slot], track.astype(np.float32))
        np.testing.assert_array_equal(info["origin"][slot], [one.recording, one.vehicle, one.start])


def test_returned_arrays_are_not_the_buffers():
    env = make_env(2)
    observation, _ = env.reset(seed=0)
    kept = {name: value.copy() for name, value in observation.items()}
    env.step(env.action_space.sample())
    for name, value in observation.items():
        np.testing.assert_array_equal(value, kept[name])
        value[...] = 0
    assert env.step(env.action_space.sample())[0]["image"].any()


def test_render_shows_the_ego_in_the_middle():
    env = make_single(render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (SPEC.height * 4, SPEC.width * 4, 3)
    assert picture.dtype == np.uint8
    blue = (picture == [76, 148, 255]).all(-1)
    rows, columns = np.nonzero(blue)
    assert rows.mean() == pytest.approx((SPEC.height * 4 - 1) / 2, abs=0.51)
    assert columns.mean() == pytest.approx((SPEC.width * 4 - 1) / 2, abs=0.51)


# --- The contract -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_batched_env_equals_sync_vector_env_step_by_step(mode):
    native = make_env(4, autoreset_mode=mode)
    sync = SyncVectorEnv([make_single] * 4, autoreset_mode=mode)
    assert native.single_observation_space == sync.single_observation_space
    assert native.observation_space == sync.observation_space
    assert native.action_space == sync.action_space
    assert native.metadata["autoreset_mode"] == sync.metadata["autoreset_mode"]
    assert_same(native.reset(seed=7), sync.reset(seed=7))
    rng = np.random.default_rng(0)
    low, high = np.float32([-8.0, -0.05]), np.float32([4.0, 0.05])
    num_over = 0
    for _ in range(60):
        action = rng.uniform(low, high, (4, 2)).astype(np.float32)
        got, expected = native.step(action), sync.step(action)
        assert_same(got, expected)
        over = got[2] | got[3]
        num_over += over.sum()
        if mode == AutoresetMode.DISABLED and over.any():
            assert_same(native.reset(options={"reset_mask": over}), sync.reset(options={"reset_mask": over}))
    assert num_over >= 4
    sync.close()


def test_the_same_seed_gives_the_same_drive():
    def run(seed: int) -> list:
        env = make_env(3)
        actions = np.random.default_rng(1).uniform(-0.05, 0.05, (30, 3, 2)).astype(np.float32)
        return [env.reset(seed=seed), *(env.step(action) for action in actions)]

    assert_same(run(5), run(5))
    different = run(5)[0][1]["episode_id"] != run(6)[0][1]["episode_id"]
    assert different.any()


def test_slots_do_not_influence_each_other():
    together, alone = make_env(3), make_env(1)
    numbers = np.array([0, 9, 4])
    together.reset(options={"episode": numbers})
    actions = np.random.default_rng(2).uniform(-0.005, 0.005, (15, 3, 2)).astype(np.float32)
    batch = [together.step(action)[0] for action in actions]
    for slot, number in enumerate(numbers):
        alone.reset(options={"episode": int(number)})
        for action, expected in zip(actions, batch, strict=True):
            got = alone.step(action[slot : slot + 1])[0]
            for name in got:
                np.testing.assert_array_equal(got[name][0], expected[name][slot])


@pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # it would like bounded observations and actions in [-1, 1]
def test_gymnasium_checker_passes():
    check_env(make_single(render_mode="rgb_array"), skip_render_check=True)


@pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # it would like images in one of stable-baselines3's own layouts
def test_stable_baselines_checker_passes():
    sb3_check_env(make_single())


def test_statistics_of_gymnasium_fit_in_the_info():
    env = gymnasium.wrappers.RecordEpisodeStatistics(make_single())
    env.reset(seed=0)
    over, info = False, {}
    while not over:
        *_, terminated, truncated, info = env.step(np.array([0.0, 0.02], dtype=np.float32))
        over = terminated or truncated
    assert info["episode"]["l"] == info["steps"]


def test_registered_ids_make_both_kinds():
    single = gymnasium.make("worldmodel/Replay-v0", raster_spec=SPEC, road_spec=ROAD)
    batch = gymnasium.make_vec(
        "worldmodel/Replay-v0", 2, vectorization_mode="vector_entry_point", raster_spec=SPEC, road_spec=ROAD
    )
    assert isinstance(single.unwrapped, ReplayEnv)
    assert isinstance(batch.unwrapped, ReplayVectorEnv)
    assert single.reset(seed=3)[0]["image"].shape == (10, 3, SPEC.height, SPEC.width)


# --- Bad input ----------------------------------------------------------------------------------------------


def test_errors_say_what_to_do():
    env = make_env(2)
    with pytest.raises(ValueError, match="history=30 exceeds the 20 frames before"):
        make_env(1, history=30)
    with pytest.raises(ValueError, match="no episodes, expected at least one"):
        ReplayVectorEnv(shared()[0], [])
    with pytest.raises(TypeError, match="autoreset_mode"):
        make_single(autoreset_mode="SameStep")
    with pytest.raises(ValueError, match="expected numbers from 0 to"):
        env.reset(options={"episode": 10_000})
    with pytest.raises(ValueError, match="bool array"):
        env.reset(options={"reset_mask": np.zeros(2, dtype=bool)})
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(3, 2\), expected \(2, 2\)"):
        env.step(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="NaN"):
        env.step(np.full((2, 2), np.nan))
