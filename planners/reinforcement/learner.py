"""Who learns: PPO and DQN of stable-baselines3, given one of our policies as actor.

Both get the policy's own encoder and last layer as their actor, with its weights to begin with. So what is
learnt is copied back as it is, and a policy that has been trained otherwise can be trained on.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gymnasium.vector import VectorEnv
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import VecMonitor

from planners.policy import PointHead, PolicyNetwork
from planners.policy.choice import ChoiceHead
from planners.reinforcement.action import ActionMap, Continuous, Discrete
from planners.reinforcement.reward import Reward
from planners.reinforcement.training import StableTraining, ViewFeatures
from planners.reinforcement.vec_env import ViewVecEnv

Elapsed = Callable[[], float]
"""Share of the training's budget that is used up, 0 to 1."""


@dataclass(frozen=True)
class PPOLearner:
    """Proximal policy optimisation (Schulman et al. 2017).

    Attributes:
        learning_rate: at the start; it falls to zero with the budget.
        log_std: logarithm of the standard deviation of the exploration, in raw actions, at the start.
        num_steps: of every slot between two updates.
        options: further arguments of `stable_baselines3.PPO`.
    """

    learning_rate: float = 5e-4
    log_std: float = -1.5
    num_steps: int = 30
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self,
        policy: PolicyNetwork,
        env: VectorEnv[Any, Any, Any],
        *,
        reward: Reward,
        elapsed: Elapsed,
        seed: int = 0,
    ) -> StableTraining:
        """Returns the training of `policy` in `env`.

        Raises:
            ValueError: the policy is no `PointHead`.
        """
        _check_head(policy, PointHead, "PPO")
        batch = _batch(policy, env, actions=Continuous(), reward=reward)
        ppo = PPO(
            "MultiInputPolicy",
            batch,
            learning_rate=lambda _: self.learning_rate * (1.0 - elapsed()),
            n_steps=self.num_steps,
            policy_kwargs={
                **_features(policy),
                "share_features_extractor": False,
                "ortho_init": False,
                "log_std_init": self.log_std,
            },
            seed=seed,
            device=next(policy.parameters()).device,
            **self.options,
        )
        actor: Any = ppo.policy
        actor.action_net.load_state_dict(policy.head.linear.state_dict())
        return StableTraining(
            ppo,
            policy,
            encoder=actor.pi_features_extractor.encoder,
            linear=actor.action_net,
            chunk=self.num_steps * env.num_envs,
        )


@dataclass(frozen=True)
class DQNLearner:
    """Deep Q-learning (Mnih et al. 2015) over the choices of a `ChoiceHead`.

    Attributes:
        learning_rate: at the start; it falls to zero with the budget.
        explore: share of random choices at the start and from half of the budget on.
        chunk: steps between two looks at the budget.
        options: further arguments of `stable_baselines3.DQN`.
    """

    learning_rate: float = 3e-4
    explore: Sequence[float] = (0.5, 0.05)
    chunk: int = 2048
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self,
        policy: PolicyNetwork,
        env: VectorEnv[Any, Any, Any],
        *,
        reward: Reward,
        elapsed: Elapsed,
        seed: int = 0,
    ) -> StableTraining:
        """Returns the training of `policy` in `env`.

        Raises:
            ValueError: the policy is no `ChoiceHead`.
        """
        _check_head(policy, ChoiceHead, "DQN")
        batch = _batch(policy, env, actions=Discrete(policy.head.table), reward=reward)
        dqn = DQN(
            "MultiInputPolicy",
            batch,
            learning_rate=lambda _: self.learning_rate * (1.0 - elapsed()),
            policy_kwargs=_features(policy),
            seed=seed,
            device=next(policy.parameters()).device,
            **self.options,
        )
        high, low = self.explore
        dqn.exploration_schedule = lambda _: high + (low - high) * min(1.0, 2.0 * elapsed())
        (linear,) = dqn.q_net.q_net
        linear.load_state_dict(policy.head.linear.state_dict())
        dqn.q_net_target.load_state_dict(dqn.q_net.state_dict())
        actor: Any = dqn.q_net
        return StableTraining(
            dqn, policy, encoder=actor.features_extractor.encoder, linear=linear, chunk=self.chunk
        )


def _batch(
    policy: PolicyNetwork, env: VectorEnv[Any, Any, Any], *, actions: ActionMap, reward: Reward
) -> VecMonitor:
    return VecMonitor(ViewVecEnv(env, policy, actions=actions, reward=reward))


def _features(policy: PolicyNetwork) -> dict[str, Any]:
    """Arguments of a policy of stable-baselines3: our encoder, and nothing between it and the last layer."""
    encoder = {"make": partial(deepcopy, policy.encoder), "features": policy.head.linear.in_features}
    return {"features_extractor_class": ViewFeatures, "features_extractor_kwargs": encoder, "net_arch": []}


def _check_head(policy: PolicyNetwork, expected: type, name: str) -> None:
    if not isinstance(policy.head, expected):
        raise ValueError(
            f"{name} trains a {expected.__name__}, got a {type(policy.head).__name__}; choose another model="
        )
