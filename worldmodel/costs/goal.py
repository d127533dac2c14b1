"""Getting on: slower than wanted, faster than allowed, backwards. Reads the ego's speed only."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from worldmodel.costs.weighted import Terms
from worldmodel.types import Rollout


def progress_cost(speed: Float[Tensor, "*B"], target_speed: float) -> Float[Tensor, "*B"]:
    """Returns the missing share of the target speed: 1 at standstill, 0 from the target on.

    Linear, so a metre lost costs the same at any speed.
    """
    return (1 - speed / target_speed).relu()


def overspeed_cost(speed: Float[Tensor, "*B"], target_speed: float) -> Float[Tensor, "*B"]:
    """Returns the square of the excess share of the target speed: 0 up to it, 1 at twice."""
    return (speed / target_speed - 1).relu().square()


def reverse_cost(speed: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Returns the reverse speed squared [m^2/s^2]: 0 while standing or going ahead."""
    return (-speed).relu().square()


@dataclass(frozen=True)
class Goal:
    """Terms `progress`, `overspeed`, `reverse`.

    Attributes:
        target_speed: [m/s]
    """

    target_speed: float = 30.0

    def __call__(self, rollout: Rollout) -> Terms:
        speed = rollout.ego[..., 3]
        return {
            "progress": progress_cost(speed, self.target_speed),
            "overspeed": overspeed_cost(speed, self.target_speed),
            "reverse": reverse_cost(speed),
        }
