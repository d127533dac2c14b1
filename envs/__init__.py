"""Gymnasium environments: recorded, simulated and imagined traffic behind one interface.

`envs.highway`, which imports highway-env, is imported when it is needed.
"""

import gymnasium

from envs.discrete import DiscreteActions
from envs.replay import ReplayEnv, ReplayVectorEnv
from envs.space import action_space, observation_space
from envs.traffic import TrafficEnv, TrafficVectorEnv
from envs.world_model import WorldModelEnv, WorldModelVectorEnv

__all__ = [
    "DiscreteActions",
    "ReplayEnv",
    "ReplayVectorEnv",
    "TrafficEnv",
    "TrafficVectorEnv",
    "WorldModelEnv",
    "WorldModelVectorEnv",
    "action_space",
    "observation_space",
]

gymnasium.register(
    "worldmodel/Replay-v0",
    entry_point="envs.shipped:make_replay",
    vector_entry_point="envs.shipped:make_replay_vector",
)
gymnasium.register(
    "worldmodel/Highway-v0",
    entry_point="envs.highway:HighwayEnv",
    vector_entry_point="envs.highway:HighwayVectorEnv",
)
gymnasium.register(
    "worldmodel/Traffic-v0",
    entry_point="envs.traffic:make_traffic",
    vector_entry_point="envs.traffic:make_traffic_vector",
)
