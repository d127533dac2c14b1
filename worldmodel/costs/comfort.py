"""What passengers feel: acceleration, jerk, sideways acceleration. Reads actions and speeds only."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.costs.weighted import Terms
from worldmodel.types import Rollout


def accel_cost(action: Float[Tensor, "*B 2"]) -> Float[Tensor, "*B"]:
    """Returns the acceleration squared [m^2/s^4]."""
    return action[..., 0].square()


def jerk_cost(
    action: Float[Tensor, "*B T 2"], previous_action: Float[Tensor, "*B 2"], dt: float
) -> Float[Tensor, "*B T"]:
    """Returns the jerk squared [m^2/s^6]; the first one is the step from `previous_action`."""
    accel = torch.cat([previous_action[..., :1], action[..., 0]], dim=-1)
    return (accel.diff(dim=-1) / dt).square()


def lateral_cost(speed: Float[Tensor, "*B"], curvature: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Returns the sideways acceleration `curvature speed^2`, squared [m^2/s^4]."""
    return (curvature * speed.square()).square()


def curvature_cost(action: Float[Tensor, "*B 2"]) -> Float[Tensor, "*B"]:
    """Returns the curvature squared [1/m^2]: what is left of steering at standstill."""
    return action[..., 1].square()


@dataclass(frozen=True)
class Comfort:
    """Terms `accel`, `jerk`, `lateral`, `curvature`.

    Attributes:
        dt: time between actions [s].
    """

    dt: float = 0.1

    def __call__(self, rollout: Rollout) -> Terms:
        action, speed = rollout.action, rollout.ego[..., 3]
        return {
            "accel": accel_cost(action),
            "jerk": jerk_cost(action, rollout.previous_action, self.dt),
            "lateral": lateral_cost(speed, action[..., 1]),
            "curvature": curvature_cost(action),
        }
