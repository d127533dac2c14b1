"""Reinforcement learning of our policies: stable-baselines3 learns, in any of the road environments.

Needs the extra `rl`. What has been learnt is a `planners.policy.PolicyNetwork` like any other and needs it no
more.
"""

try:
    import stable_baselines3  # noqa: F401
except ImportError as error:
    raise ImportError(
        "reinforcement learning needs stable-baselines3; pip install 'highway-worldmodel[rl]'"
    ) from error

from planners.reinforcement.action import ActionMap, Continuous, Discrete
from planners.reinforcement.learner import DQNLearner, PPOLearner
from planners.reinforcement.reward import CostReward, EnvReward, Reward
from planners.reinforcement.training import StableTraining
from planners.reinforcement.vec_env import ViewVecEnv

__all__ = [
    "ActionMap",
    "Continuous",
    "CostReward",
    "DQNLearner",
    "Discrete",
    "EnvReward",
    "PPOLearner",
    "Reward",
    "StableTraining",
    "ViewVecEnv",
]
