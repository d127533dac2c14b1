"""The batch that stable-baselines3 gets is the environment itself, seen and driven by a policy."""

import numpy as np
import pytest
import torch

from planners.policy import PointHead, view_of
from planners.policy.choice import ChoiceHead
from planners.reinforcement import Continuous, CostReward, Discrete, EnvReward
from planners.reinforcement.vec_env import PARTS, as_dict
from tests.envs.factories import ROAD, SPEC
from tests.envs.test_world_model import make_env as make_imagination
from tests.planners.reinforcement.factories import make_batch, make_policy, make_traffic
from worldmodel.costs import motorway_cost
from worldmodel.evaluation.suite import to_obs

REMISS = np.array([[0.5, 0.0], [0.0, 0.5], [0.0, 0.0], [-0.1, 0.0]])
"""One speeds, one leaves the road."""


def assert_same(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(got) == set(expected) == set(PARTS)
    for name in PARTS:
        np.testing.assert_allclose(got[name], expected[name], atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_it_equals_the_native_environment_step_by_step() -> None:
    policy, num, rng = make_policy(PointHead(8)), 4, np.random.default_rng(0)
    batch, native = make_batch(policy, num, reward=EnvReward(0.5)), make_traffic(num)

    def seen(observation, info) -> dict[str, np.ndarray]:
        return as_dict(view_of(to_obs(observation, info, scene=np.arange(num)), policy.view_spec))

    batch.seed(3)
    got, expected = batch.reset(), seen(*native.reset(seed=3))
    assert_same(got, expected)
    assert batch.observation_space.contains({name: got[name][0] for name in PARTS})
    num_crashed = num_truncated = 0
    for _ in range(60):
        raw = (rng.normal(scale=0.3, size=(num, 2)) + REMISS).astype(np.float32)
        action = policy.to_action(torch.from_numpy(raw), torch.from_numpy(expected["ego"][:, 0])).numpy()
        got, reward, done, infos = batch.step(raw)
        observation, paid, terminated, truncated, info = native.step(action)
        expected = seen(observation, info)
        assert_same(got, expected)
        np.testing.assert_allclose(reward, 0.5 * paid, rtol=1e-6)
        np.testing.assert_array_equal(done, terminated | truncated)
        for slot in range(num):
            if not done[slot]:
                assert infos[slot] == {}
                continue
            final = {name: part[None] for name, part in info["final_obs"][slot].items()}
            row = {"origin": info["final_info"]["origin"][slot : slot + 1]}
            last = as_dict(view_of(to_obs(final, row, scene=np.zeros(1)), policy.view_spec))
            assert_same(infos[slot]["terminal_observation"], {name: last[name][0] for name in PARTS})
            assert infos[slot]["TimeLimit.truncated"] == (not terminated[slot]) == infos[slot]["is_success"]
        num_crashed += int(terminated.sum())
        num_truncated += int(truncated.sum())
    assert num_crashed > 1 and num_truncated > 1


def test_what_was_handed_out_stays_as_it_was() -> None:
    batch = make_batch(make_policy(PointHead(8)))
    batch.seed(0)
    kept = [batch.reset()]
    copies = [{name: part.copy() for name, part in kept[0].items()}]
    for _ in range(30):
        observation = batch.step(np.full((4, 2), 0.8, dtype=np.float32))[0]
        kept.append(observation)
        copies.append({name: part.copy() for name, part in observation.items()})
    for one, copy in zip(kept, copies, strict=True):
        assert_same(one, copy)


def test_raw_actions_are_normalised() -> None:
    """A raw action of one stands for nearly full braking, or a tight turn, at any speed."""
    policy, raw = make_policy(PointHead(8)), Continuous().raw(np.array([[-5.0, 5.0], [-5.0, 5.0]]))
    action = policy.to_action(raw, torch.tensor([10.0, 30.0]))
    torch.testing.assert_close(action[:, 0], torch.tensor([-6.0, -6.0]), rtol=1e-3, atol=0.0)
    lateral = action[:, 1] * torch.tensor([10.0, 30.0]).square()
    torch.testing.assert_close(lateral, torch.tensor([3.0, 3.0]), rtol=1e-3, atol=0.0)


def test_choices_are_rows_of_the_table() -> None:
    head = ChoiceHead(8, accel=(-1.0, 0.0), curvature=(0.0, 0.5))
    actions = Discrete(head.table)
    assert actions.space.n == 4
    assert actions.raw(np.array([3, 0])).tolist() == [[0.0, 0.5], [-1.0, 0.0]]


def test_the_cost_of_what_is_seen_is_the_cost_of_the_imagined_step() -> None:
    env = make_imagination(num_envs=2)
    cost = CostReward(env.cost, crash=100.0, scale=0.5, spec=env.raster_spec)
    env.reset(seed=4)
    rng = np.random.default_rng(0)
    for _ in range(6):
        observation, paid, terminated, truncated, info = env.step(rng.normal(0, [1.0, 0.002], (2, 2)))
        assert not (terminated | truncated).any()
        reached = to_obs(observation, info, scene=np.arange(2))
        got = cost(np.zeros(2), reached, terminated)
        np.testing.assert_allclose(got, 0.5 * paid, rtol=2e-3, atol=0.02)  # the raster is rounded to bytes
        np.testing.assert_allclose(cost(np.zeros(2), reached, ~terminated), got - 50.0, rtol=1e-6)


def test_errors_say_what_to_do() -> None:
    policy = make_policy(PointHead(8))
    with pytest.raises(ValueError, match="expected SameStep"):
        make_batch_of(policy, mode="NextStep")
    batch = make_batch(policy)
    for refused in (lambda: batch.set_attr("protocol", 1), lambda: batch.env_method("render")):
        with pytest.raises(NotImplementedError, match="environment itself"):
            refused()
    observation, info = make_traffic(2, history=2).reset(seed=0)
    short = to_obs(observation, info, scene=np.arange(2))
    with pytest.raises(ValueError, match="expected 3"):
        CostReward(motorway_cost(SPEC, ROAD), spec=SPEC)(np.zeros(2), short, np.zeros(2, dtype=bool))


def make_batch_of(policy, *, mode: str):
    from planners.reinforcement import ViewVecEnv

    return ViewVecEnv(make_traffic(mode=mode), policy, actions=Continuous(), reward=EnvReward())
