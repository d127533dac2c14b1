"""What a learner is paid, from what an environment says and what the ego has come to see.

`EnvReward` passes on what the environment pays: progress and crashes (`envs.replay`), or a cost where it
knows one (`envs.world_model`). `CostReward` pays minus a cost in any of them: it says in every step what is
dangerous, where progress says nothing before the crash.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float

from worldmodel.protocols import Cost
from worldmodel.scene import Channel, RasterSpec, inverse
from worldmodel.scene.raster import DEFAULT_SPEC
from worldmodel.types import Obs, Rollout


@runtime_checkable
class Reward(Protocol):
    """Pays for a step."""

    def __call__(
        self, paid: Float[np.ndarray, " B"], reached: Obs, crashed: Bool[np.ndarray, " B"]
    ) -> Float[np.ndarray, " B"]:
        """Returns the rewards.

        Args:
            paid: by the environment.
            reached: what the step led to; where an episode has ended, its last observation.
            crashed: whether the episode ended in a collision or off the road.
        """
        ...


@dataclass(frozen=True)
class EnvReward:
    """The environment's own, scaled: value functions learn best when returns are about 1.

    Attributes:
        scale: of a reward.
    """

    scale: float = 0.02

    def __call__(
        self, paid: Float[np.ndarray, " B"], reached: Obs, crashed: Bool[np.ndarray, " B"]
    ) -> Float[np.ndarray, " B"]:
        return self.scale * paid


@dataclass(frozen=True)
class CostReward:
    """`-scale (cost + crash [crashed])`, the cost being that of the newest frame as it was seen.

    Attributes:
        cost: of a rollout of one step.
        crash: cost of a collision or of leaving the road.
        scale: of a reward.
        spec: of the rasters.
        dt: [s]
    """

    cost: Cost
    crash: float = 100.0
    scale: float = 0.02
    spec: RasterSpec = DEFAULT_SPEC
    dt: float = 0.1

    def __call__(
        self, paid: Float[np.ndarray, " B"], reached: Obs, crashed: Bool[np.ndarray, " B"]
    ) -> Float[np.ndarray, " B"]:
        with torch.no_grad():
            cost = self.cost(newest_step(reached, spec=self.spec, dt=self.dt)).total[:, 0]
        paid_here: np.ndarray = -self.scale * (cost.double().numpy() + self.crash * crashed)
        return paid_here


def newest_step(obs: Obs, *, spec: RasterSpec, dt: float) -> Rollout:
    """Returns the step that led to the newest frame as a rollout of one step, in the frame of its end.

    Raises:
        ValueError: the history is too short to know the last two actions.
    """
    if obs.state.shape[1] < 3:
        raise ValueError(f"a history of {obs.state.shape[1]} frames, expected 3; a jerk takes two actions")
    channel = spec.channels.index(Channel.VEHICLES)
    actions = inverse(obs.state[:, -3:].double(), dt).to(obs.size)  # (B, 2, 2)
    ego = torch.zeros_like(obs.state[:, -1:])
    ego[..., 3] = obs.state[:, -1:, 3]
    return Rollout(
        image=obs.image[:, -1:, channel : channel + 1].to(obs.size) / 255,
        ego=ego,
        view=ego[..., :3],
        action=actions[:, 1:],
        previous_action=actions[:, 0],
        size=obs.size,
        road=obs.road,
    )
