"""What a learner chooses, and the raw actions that stands for (`planners.policy.network`).

Raw actions are normalised: 1 is full braking, or the tightest turn at the present speed. Accelerations in
[m/s^2] beside curvatures in [1/m] would be a thousand times apart, and neither PPO nor DQN learns that.
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor

LIMIT = 5.0
"""Of raw actions; squashed into the bounds, they hardly differ beyond 3."""


@runtime_checkable
class ActionMap(Protocol):
    """Translates a learner's choices."""

    @property
    def space(self) -> spaces.Space[Any]:
        """To choose from."""
        ...

    def raw(self, chosen: np.ndarray) -> Float[Tensor, "B 2"]:
        """Returns the raw actions."""
        ...


class Continuous:
    """The choices are raw actions themselves."""

    space: spaces.Space[Any] = spaces.Box(-LIMIT, LIMIT, (2,), np.float32)

    def raw(self, chosen: np.ndarray) -> Float[Tensor, "B 2"]:
        """Returns them."""
        return torch.from_numpy(np.asarray(chosen, dtype=np.float32))


class Discrete:
    """The choices are rows of a table.

    Args:
        table: of raw actions.
    """

    def __init__(self, table: Float[Tensor, "N 2"]) -> None:
        self.table = table.detach()
        self.space: spaces.Space[Any] = spaces.Discrete(len(table))

    def raw(self, chosen: np.ndarray) -> Float[Tensor, "B 2"]:
        """Returns the rows."""
        return self.table[torch.from_numpy(np.asarray(chosen, dtype=np.int64))]
