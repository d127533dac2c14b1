"""A tiny policy, and recorded traffic for it to learn in."""

from planners.policy import PolicyNetwork
from planners.reinforcement import Continuous, EnvReward, ViewVecEnv
from tests.envs.factories import SPEC, make_env
from tests.planners.policy.factories import make_policy as make_any_policy
from worldmodel.evaluation.protocol import Protocol

SHORT = Protocol(name="short", history=0.5, min_drive=1.0)


def make_policy(head=None, **options) -> PolicyNetwork:
    return make_any_policy(head, **{"raster": SPEC, "pool": (3, 1), **options})


def make_traffic(num_envs: int = 4, *, mode: str = "SameStep", **options):
    return make_env(num_envs, protocol=SHORT, autoreset_mode=mode, **options)


def make_batch(policy: PolicyNetwork, num_envs: int = 4, *, reward=None, actions=None) -> ViewVecEnv:
    return ViewVecEnv(
        make_traffic(num_envs), policy, actions=actions or Continuous(), reward=reward or EnvReward()
    )
