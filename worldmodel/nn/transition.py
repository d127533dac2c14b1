"""One step of a world in the space of embeddings: the last maps and an action -> the next map."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn.block import ResidualBlock
from worldmodel.nn.configured import Configured

ACTION_SCALE = (1.0, 0.01)
"""Usual accelerations [m/s^2] and curvatures [1/m]: the units in which networks are told of actions."""


class Transition(Configured):
    """`h[t+1] = h[t] + g(h[t-1], h[t], a[t])`; zero at birth, so that it begins by predicting no change.

    Args:
        features: channels of a map.
        width: channels in between.
        depth: residual blocks.
        history: maps it sees; two tell velocities.
    """

    def __init__(self, features: int, *, width: int = 32, depth: int = 1, history: int = 2) -> None:
        super().__init__()
        self.history = history
        self.enter = nn.Conv2d(history * features, width, 3, padding=1)
        self.act = nn.Linear(2, width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(depth))
        self.leave = nn.Conv2d(width, features, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(
        self, maps: Float[Tensor, "B K F H W"], action: Float[Tensor, "B 2"]
    ) -> Float[Tensor, "B F H W"]:
        """Returns the next map.

        Args:
            maps: the last `history` ones, newest last.
            action: mean acceleration [m/s^2] and curvature [1/m] until then.
        """
        usual = action / action.new_tensor(ACTION_SCALE)
        hidden = self.enter(maps.flatten(1, 2)) + self.act(usual)[:, :, None, None]
        for block in self.blocks:
            hidden = block(hidden)
        return maps[:, -1] + self.leave(F.silu(hidden))
