"""Gymnasium environments: recorded, simulated and imagined traffic behind one interface."""

import gymnasium

from envs.replay import ReplayEnv, ReplayVectorEnv
from envs.space import action_space, observation_space

__all__ = ["ReplayEnv", "ReplayVectorEnv", "action_space", "observation_space"]

gymnasium.register(
    "worldmodel/Replay-v0",
    entry_point="envs.shipped:make_replay",
    vector_entry_point="envs.shipped:make_replay_vector",
)
