"""Learners of stable-baselines3: they learn what they are paid for, and what they learnt is our policy."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from planners.policy import GaussianHead, PointHead, PolicyNetwork, PolicyPlanner, PolicyView
from planners.policy.choice import ChoiceHead
from planners.reinforcement import DQNLearner, EnvReward, PPOLearner, StableTraining
from planners.reinforcement.reward import newest_step
from tests.envs.factories import SPEC
from tests.planners.reinforcement.factories import make_policy, make_traffic
from worldmodel import load
from worldmodel.models import save_model

PPO = {"batch_size": 40, "n_epochs": 4, "gamma": 0.0, "gae_lambda": 0.0}
DQN = {
    "learning_starts": 40, "batch_size": 32, "gamma": 0.0, "train_freq": 1, "gradient_steps": 4,
    "buffer_size": 2000, "target_update_interval": 100,
}  # fmt: skip


@dataclass(frozen=True)
class PaidFor:
    """Pays for accelerating with `accel`."""

    accel: float

    def __call__(self, paid, reached, crashed):
        executed = newest_step(reached, spec=SPEC, dt=0.1).action[:, 0, 0].numpy()
        return -np.abs(executed - self.accel).astype(np.float64)


def make_ppo(policy: PolicyNetwork, *, reward=None, **options) -> StableTraining:
    learner = PPOLearner(options=PPO, num_steps=10, **options)
    return learner(policy, make_traffic(4), reward=reward or EnvReward(), elapsed=lambda: 0.0)


def make_dqn(policy: PolicyNetwork, *, reward=None, **options) -> StableTraining:
    learner = DQNLearner(options=DQN, chunk=80, **options)
    return learner(policy, make_traffic(4), reward=reward or EnvReward(), elapsed=lambda: 0.0)


def make_choices() -> PolicyNetwork:
    return make_policy(ChoiceHead(8), scale=0.1)


def some_views(training: StableTraining) -> dict[str, np.ndarray]:
    env = training.algorithm.get_env()
    env.seed(5)
    return env.reset()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "policy"), [(make_ppo, lambda: make_policy(PointHead(8))), (make_dqn, make_choices)]
)
def test_the_policy_acts_as_the_learner_does(make, policy, tmp_path: Path) -> None:
    """At birth, after learning, and once it has been saved and loaded."""
    network = policy()
    training = make(network)
    views = some_views(training)
    tensors = PolicyView(**{name: torch.from_numpy(part) for name, part in views.items()})
    born = network(tensors).detach()
    for number in range(3):
        chosen = training.algorithm.predict(views, deterministic=True)[0]
        raw = training.algorithm.get_env().venv.actions.raw(chosen)
        expected = network.to_action(raw, tensors.ego[:, 0])
        torch.testing.assert_close(network(tensors), expected, rtol=1e-5, atol=1e-6)
        if number < 2:
            training.advance()
    before = {name: part.clone() for name, part in network.state_dict().items()}
    save_model(network, tmp_path / "policy.pt")
    loaded = load(tmp_path / "policy.pt")
    torch.testing.assert_close(loaded(tensors), network(tensors))
    assert not torch.equal(network.encoder.mix.weight, make(policy()).policy.encoder.mix.weight)
    assert before.keys() == loaded.state_dict().keys() and torch.isfinite(born).all()


@pytest.mark.slow
def test_ppo_learns_what_it_is_paid_for() -> None:
    network = make_policy(PointHead(8), scale=0.01)
    training = make_ppo(network, reward=PaidFor(1.5), learning_rate=1e-2, log_std=-1.0)
    tensors = PolicyView(**{name: torch.from_numpy(part) for name, part in some_views(training).items()})
    assert network(tensors)[:, 0].abs().max() < 0.3
    for _ in range(15):
        training.advance()
    assert (network(tensors)[:, 0] - 1.5).abs().mean() < 0.5
    assert training.steps == 15 * 40


@pytest.mark.slow
def test_dqn_learns_what_it_is_paid_for() -> None:
    network = make_choices()
    wanted = float(network.head.table[:, 0].max() * 6.0)
    training = make_dqn(network, reward=PaidFor(wanted), learning_rate=1e-2)
    for _ in range(6):
        training.advance()
    tensors = PolicyView(**{name: torch.from_numpy(part) for name, part in some_views(training).items()})
    best = network.to_action(network.head.table.max(0).values.expand(4, 2), tensors.ego[:, 0])[:, 0]
    torch.testing.assert_close(network(tensors)[:, 0], best)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "policy"), [(make_ppo, lambda: make_policy(PointHead(8))), (make_dqn, make_choices)]
)
def test_a_training_carries_on_from_its_state(make, policy, tmp_path: Path) -> None:
    """Networks, optimiser and steps, through a file that is not unpickled."""
    training = make(policy())
    training.advance()
    torch.save(training.state_dict(), tmp_path / "state.pt")
    other = make(policy())
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.steps == training.steps > 0
    for name, part in training.policy.state_dict().items():
        torch.testing.assert_close(other.policy.state_dict()[name], part)
    mine, yours = (
        torch.cat([part["exp_avg"].flatten() for part in kept.values()])
        for kept in (one.algorithm.policy.optimizer.state_dict()["state"] for one in (other, training))
    )
    torch.testing.assert_close(mine, yours)
    assert mine.abs().max() > 0
    other.advance()
    assert other.steps == 2 * training.steps


def test_the_learning_rate_falls_with_the_budget() -> None:
    share = [0.0]
    learner = PPOLearner(options=PPO, num_steps=10, learning_rate=1e-3)
    training = learner(
        make_policy(PointHead(8)), make_traffic(4), reward=EnvReward(), elapsed=lambda: share[0]
    )
    assert training.advance()["train/learning_rate"] == pytest.approx(1e-3)
    share[0] = 0.75
    assert training.advance()["train/learning_rate"] == pytest.approx(2.5e-4)


def test_a_choice_is_a_policy_like_any_other(tmp_path: Path) -> None:
    head = ChoiceHead(8, accel=(-1.0, 0.0, 0.3), curvature=(-0.2, 0.0, 0.2))
    network = make_policy(head)
    features = torch.randn(5, 8)
    best = head.linear(features).argmax(-1)
    torch.testing.assert_close(head(features), head.table[best])
    torch.testing.assert_close(
        head.log_prob(features, head.table[best] + 0.01), head.linear(features).log_softmax(-1).amax(-1)
    )
    save_model(network, tmp_path / "policy.pt")
    loaded = load(tmp_path / "policy.pt")
    torch.testing.assert_close(loaded.head.table, head.table)
    assert PolicyPlanner(loaded).policy.num_noise == 0


def test_a_head_that_a_learner_cannot_train_is_refused() -> None:
    with pytest.raises(ValueError, match="PPO trains a PointHead, got a GaussianHead"):
        make_ppo(make_policy(GaussianHead(8)))
    with pytest.raises(ValueError, match="DQN trains a ChoiceHead"):
        make_dqn(make_policy(PointHead(8)))
