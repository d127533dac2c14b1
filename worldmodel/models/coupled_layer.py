"""The layers of the coupled model: what halves an image, the bottleneck, and the head that moves the ego.

Sizes follow PPUU's. Every layer takes its locked dropout masks as an argument, one for each of its `sites`.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import Masks, Stack


class Bottleneck(nn.Module):
    """The *u-network*: two convolutions down, an MLP over all that is left, two up again."""

    def __init__(self, channels: int, width: int, cells: tuple[int, int]) -> None:
        super().__init__()
        self.cells = cells
        self.low = (cells[0] // 4, (cells[1] // 2 + 1) // 2 + 1)
        size = channels * self.low[0] * self.low[1]
        self.down = Stack(
            nn.Conv2d(channels, channels, 4, stride=2, padding=1),
            nn.Conv2d(channels, channels, (4, 1), stride=2, padding=1),
        )
        self.mlp = Stack(nn.Linear(size, width), nn.Linear(width, size))
        self.up = Stack(
            nn.ConvTranspose2d(channels, channels, (4, 1), stride=2, padding=1),
            nn.ConvTranspose2d(channels, channels, (4, 3), stride=2),
        )
        self.sites = (*self.down.sites, *self.mlp.sites, *self.up.sites)

    def forward(self, h: Float[Tensor, "B C H W"], masks: Masks | None = None) -> Float[Tensor, "B C H W"]:
        """Args: masks: one for each of `sites`."""
        down, mlp, up = (None, None, None) if masks is None else (masks[:1], masks[1:2], masks[2:])
        low = self.down(h, down)
        return fit(self.up(self.mlp(low.flatten(1), mlp).view_as(low), up), self.cells)


class MotionHead(nn.Module):
    """Hidden map -> change of the ego's motion, in units of `CoupledModel.motion_scale`."""

    def __init__(self, channels: int, width: int, cells: tuple[int, int]) -> None:
        super().__init__()
        rows, columns = cells[0] // 2, cells[1] // 2
        tall = min(4, rows)
        size = channels * ((rows - tall) // 2 + 1) * columns
        self.down = Stack(
            nn.Conv2d(channels, channels, 4, stride=2, padding=1),
            nn.Conv2d(channels, channels, (tall, 1), stride=(2, 1)),
        )
        self.layers = Stack(nn.Linear(size, width), nn.Linear(width, width), nn.Linear(width, 4))
        self.sites = (*self.down.sites, *self.layers.sites)

    def forward(self, h: Float[Tensor, "B C H W"], masks: Masks | None = None) -> Float[Tensor, "B 4"]:
        """Args: masks: one for each of `sites`."""
        down, rest = (None, None) if masks is None else (masks[:1], masks[1:])
        return self.layers(self.down(h, down).flatten(1), rest)


def encoder(in_channels: int, features: Sequence[int]) -> Stack:
    """Returns convolutions that each halve the image."""
    return Stack(*(nn.Conv2d(*ends, 4, stride=2, padding=1) for ends in pairwise((in_channels, *features))))


def mlp(size_in: int, width: int, size_out: int) -> Stack:
    """Returns three linear layers."""
    return Stack(nn.Linear(size_in, width), nn.Linear(width, width), nn.Linear(width, size_out))


def fit(image: Tensor, size: Sequence[int]) -> Tensor:
    """Returns the image cropped or padded at its far ends."""
    return F.pad(image, (0, size[1] - image.shape[-1], 0, size[0] - image.shape[-2]))
