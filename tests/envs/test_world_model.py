"""Acting in a model's imagination: what it shows, what it costs, and Gymnasium's contract."""

from functools import cache, partial

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TransformAction
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from envs import ReplayVectorEnv, WorldModelEnv, WorldModelVectorEnv
from tests.envs.factories import ROAD, driver_actions, make_straight
from worldmodel.costs import motorway_cost
from worldmodel.data.synthetic import make_recording
from worldmodel.evaluation.episode import Outcome
from worldmodel.evaluation.protocol import Protocol, episodes
from worldmodel.evaluation.suite import to_obs
from worldmodel.models import (
    Context,
    EgoSplit,
    FixedContext,
    ForwardModel,
    GaussianLatent,
    LearntContext,
    TrueContext,
)
from worldmodel.scene import Channel, RasterSpec, Recording, Renderer, rollout

SPEC = RasterSpec(height=48, width=16)
ANYWHERE = Protocol(name="anywhere", history=0.4, repeat=0.5, min_drive=1.0)
COST = motorway_cost(SPEC, ROAD, target_speed=15.0)


@cache
def shared() -> tuple[Recording, Renderer]:
    recording = make_recording(seed=1, num_vehicles=8)
    return recording, Renderer(recording, SPEC)


@cache
def make_learnt(*, stochastic: bool = False) -> EgoSplit:
    torch.manual_seed(0)
    latent = GaussianLatent(8, 16, dim=4) if stochastic else None
    model = ForwardModel(spec=SPEC, history=4, channels=8, latent=latent)
    return EgoSplit(model.eval().requires_grad_(False))


def make_env(make=WorldModelVectorEnv, *args, recording: Recording | None = None, **options):
    drawn = {"renderers": (shared()[1],)} if recording is None else {}
    recording = recording or shared()[0]
    found = episodes([recording], protocol=ANYWHERE)
    options = {
        "model": make_learnt(), "cost": COST, "num_steps": 12, "history": 4, "protocol": ANYWHERE,
        "raster_spec": SPEC, "road_spec": ROAD,
    } | drawn | options  # fmt: skip
    return make([recording], found, *args, **options)


make_single = partial(make_env, WorldModelEnv)


# --- What is imagined ---------------------------------------------------------------------------------------


def test_with_the_true_future_it_is_the_replay() -> None:
    """The recorded driver's actions, in a world that knows the recording."""
    recording, renderer = shared()
    found = episodes([recording], protocol=ANYWHERE)
    world = FixedContext(TrueContext([recording], spec=SPEC), horizon=12)
    env = make_env(WorldModelVectorEnv, 2, model=world)
    replay = ReplayVectorEnv(
        [recording],
        found,
        2,
        history=4,
        protocol=ANYWHERE,
        raster_spec=SPEC,
        road_spec=ROAD,
        renderers=[renderer],
    )
    numbers = np.array([0, 5])
    got, expected = (one.reset(options={"episode": numbers})[0] for one in (env, replay))
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])
    actions = np.stack([driver_actions(recording, found[one])[:8] for one in numbers])
    for t in range(8):
        got, expected = (one.step(actions[:, t].astype(np.float32))[0] for one in (env, replay))
        np.testing.assert_allclose(got["state"], expected["state"], atol=1e-3)
        np.testing.assert_allclose(got["road"], expected["road"], atol=1e-2)
        away = np.abs(got["image"].astype(int) - expected["image"])[:, -1, Channel.VEHICLES]
        assert expected["image"][:, -1, Channel.VEHICLES].any() and away.mean() < 3.0  # bilinear, cropped


def test_the_reward_is_minus_the_cost_of_the_rollout() -> None:
    """The same actions, unrolled at once as a planner does it."""
    world, actions = make_learnt(), torch.tensor([[1.0, 0.001], [-2.0, 0.002], [0.5, -0.002]]).repeat(2, 1)
    env = make_env(WorldModelVectorEnv, 1)
    observation, info = env.reset(seed=3)
    obs = to_obs(observation, info)
    with torch.no_grad():
        hidden = world.init(obs)
        imagined = world.unroll(hidden, actions[None], world.sample_latent(hidden, 6))
        expected = -COST(imagined).total[0]
    first = torch.from_numpy(observation["state"][0, -2:]).double()
    got = []
    for action in actions:
        observation, reward, terminated, _, _ = env.step(action[None].numpy())
        assert not terminated.any()
        got.append(reward[0])
    # The first step's jerk starts from the recorded action, which the bare rollout does not know.
    weight = COST.weights["jerk"]
    known = (first[1, 3] - first[0, 3]) / 0.1
    jerk = ((actions[0, 0] - known) / 0.1) ** 2 - (actions[0, 0] / 0.1) ** 2
    expected[0] -= weight * jerk
    np.testing.assert_allclose(got, expected.numpy(), atol=0.02)
    image = (imagined.image[0, -1, 0] * 255).numpy()
    np.testing.assert_allclose(observation["image"][0, -1, Channel.VEHICLES], image, atol=1.0)


def test_the_ego_moves_by_its_kinematics_in_the_world_frame() -> None:
    env = make_env(WorldModelVectorEnv, 1)
    observation, _ = env.reset(seed=1)
    start = torch.from_numpy(observation["state"][:, -1]).double()
    actions = torch.tensor([[[1.0, 0.002]]]).double().expand(1, 5, 2)
    for t in range(5):
        observation, *_ = env.step(actions[:, t].numpy())
    expected = rollout(start, actions, 0.1)[0]
    np.testing.assert_allclose(observation["state"][0, -3:], expected[-3:], atol=1e-3)


class Wall:
    """A source whose every raster is full: cars everywhere."""

    def __call__(self, obs, num_steps):
        return Context(torch.ones(obs.batch_size, num_steps, 1, SPEC.height, SPEC.width))


def test_an_ego_among_predicted_cars_has_collided() -> None:
    env = make_env(WorldModelVectorEnv, 1, model=FixedContext(Wall(), horizon=12))
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(np.zeros((1, 2)))
    assert terminated.all() and not truncated.any() and info["outcome"][0] == Outcome.COLLISION
    assert reward[0] < -100.0


def test_an_ego_that_leaves_the_road_is_told_so() -> None:
    recording = make_straight([(60.0, 2.0, 10.0), (200.0, 6.0, 10.0)])
    env = make_env(WorldModelVectorEnv, 1, recording=recording, num_steps=30)
    env.reset(options={"episode": 0})
    for _ in range(30):
        _, reward, terminated, _, info = env.step(np.array([[0.0, -0.05]]))
        if terminated.any():
            break
    assert info["outcome"][0] == Outcome.OFF_ROAD and info["off_road"][0] and reward[0] < -100.0


def test_an_episode_is_over_after_its_steps() -> None:
    env = make_env(WorldModelVectorEnv, 1, num_steps=4)
    env.reset(seed=0)
    over = [env.step(np.zeros((1, 2)))[2:4] for _ in range(4)]
    assert [bool(truncated[0]) for _, truncated in over] == [False, False, False, True]
    assert not any(terminated[0] for terminated, _ in over)


def test_futures_differ_by_their_latents_and_repeat() -> None:
    model = make_learnt(stochastic=True)
    with torch.no_grad():
        for part in model.parameters():  # a new model ignores its latent
            part += 0.05 * torch.randn(part.shape, generator=torch.Generator().manual_seed(1))
    env = make_env(WorldModelVectorEnv, 3, model=model)
    count = len(env.core.log.episodes)
    env.reset(options={"episode": np.array([2, 2 + count, 2])})
    for _ in range(5):
        observation, *_ = env.step(np.zeros((3, 2)))
    one, other, again = observation["image"][:, -1]
    assert not np.array_equal(one, other)
    np.testing.assert_allclose(one.astype(int), again.astype(int), atol=1)


# --- The contract -------------------------------------------------------------------------------------------


def assert_close(got, expected) -> None:
    """As `assert_same`, but batched convolutions may round a grey level differently."""
    for name in expected:
        if isinstance(expected[name], dict):
            assert_close(got[name], expected[name])
        elif expected[name].dtype == object:
            for one, other in zip(got[name], expected[name], strict=True):
                assert (one is None) == (other is None)
                if other is not None:
                    assert_close(one, other)
        else:
            assert got[name].dtype == expected[name].dtype, name
            atol = 1 if name == "image" else 1e-4
            np.testing.assert_allclose(
                got[name].astype(float), expected[name].astype(float), atol=atol, rtol=1e-5, err_msg=name
            )


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_batched_env_equals_sync_vector_env_step_by_step(mode: AutoresetMode) -> None:
    native = make_env(WorldModelVectorEnv, 3, autoreset_mode=mode, num_steps=7)
    sync = SyncVectorEnv([partial(make_single, num_steps=7)] * 3, autoreset_mode=mode)
    assert native.single_observation_space == sync.single_observation_space
    assert native.observation_space == sync.observation_space and native.action_space == sync.action_space
    for got, expected in zip(native.reset(seed=7), sync.reset(seed=7), strict=True):
        assert_close(got, expected)
    rng, num_over = np.random.default_rng(0), 0
    for _ in range(18):
        action = rng.uniform([-4.0, -0.03], [2.0, 0.03], (3, 2)).astype(np.float32)
        got, expected = native.step(action), sync.step(action)
        assert_close(got[0], expected[0])
        np.testing.assert_allclose(got[1], expected[1], atol=1e-3)
        np.testing.assert_array_equal(got[2:4], expected[2:4])
        assert_close(got[4], expected[4])
        over = got[2] | got[3]
        num_over += over.sum()
        if mode == AutoresetMode.DISABLED and over.any():
            options = {"reset_mask": over}
            for one, other in zip(native.reset(options=options), sync.reset(options=options), strict=True):
                assert_close(one, other)
    assert num_over >= 4
    sync.close()


@pytest.mark.filterwarnings("ignore::UserWarning")  # it would like bounded observations
def test_gymnasium_checker_passes() -> None:
    check_env(make_single(render_mode="rgb_array"), skip_render_check=True)


@pytest.mark.filterwarnings("ignore::UserWarning")  # it would like images in one of its own layouts
def test_stable_baselines_checker_passes() -> None:
    sb3_check_env(make_single())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_ppo_learns_to_get_on_inside_the_model() -> None:
    """With the pedals alone, from 10 m/s on a road that the model keeps empty."""
    single = make_single(
        recording=make_straight([(60.0, 2.0, 10.0)]), num_steps=20,
        model=FixedContext(LearntContext(make_learnt().forward_model), horizon=20),
    )  # fmt: skip
    env = TransformAction(
        single, lambda pedal: np.array([3.0 * pedal[0], 0.0], np.float32), Box(-1.0, 1.0, (1,), np.float32)
    )
    agent = PPO(
        "MultiInputPolicy", env, n_steps=200, batch_size=50, n_epochs=8, gamma=0.8, learning_rate=1e-3, seed=0
    )

    def mean_reward() -> float:
        observation, _ = env.reset(seed=0)
        rewards = []
        for _ in range(20):
            observation, reward, *_ = env.step(agent.predict(observation, deterministic=True)[0])
            rewards.append(reward)
        return float(np.mean(rewards))

    before = mean_reward()
    agent.learn(1000)
    after = mean_reward()
    assert after > before + 0.05


# --- Bad input ----------------------------------------------------------------------------------------------


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="history=30 exceeds the 4 frames before"):
        make_env(WorldModelVectorEnv, 1, history=30)
    with pytest.raises(ValueError, match="resample"):
        make_env(WorldModelVectorEnv, 1, model=FixedContext(Wall(), dt=0.2))
