"""Replay of the shipped recording under an id: `gymnasium.make("worldmodel/Replay-v0")`."""

from functools import cache
from typing import Any

from envs.replay import ReplayEnv, ReplayVectorEnv
from worldmodel.data.sample import us101
from worldmodel.data.smooth import make_consistent
from worldmodel.evaluation.protocol import V1, Protocol, episodes
from worldmodel.scene import Recording


def make_replay(*, block: str = "B", protocol: Protocol = V1, **options: Any) -> ReplayEnv:
    """Returns the environment of all vehicles of a US-101 block; `options` as in `ReplayEnv`."""
    recordings = [_recording(block)]
    return ReplayEnv(recordings, episodes(recordings, protocol=protocol), protocol=protocol, **options)


def make_replay_vector(
    num_envs: int = 1, *, block: str = "B", protocol: Protocol = V1, **options: Any
) -> ReplayVectorEnv:
    """Returns the batched environment of a US-101 block; `options` as in `ReplayVectorEnv`."""
    recordings = [_recording(block)]
    found = episodes(recordings, protocol=protocol)
    return ReplayVectorEnv(recordings, found, num_envs, protocol=protocol, **options)


@cache
def _recording(block: str) -> Recording:
    return make_consistent(us101(block))
