"""Decoders: a feature map -> a frame."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn.configured import Configured


class MapDecoder(Configured):
    """A convolution, a nonlinearity, and a linear layer that gives each cell the pixels it stands for.

    The inverse of an encoder in shape: `(B, features, H / rows, W / columns)` -> `(B, channels, H, W)`.

    Args:
        features: of the map.
        channels: of the frame.
        stride: pixels per cell, along and across.
        width: channels in between; 0: linear, cell by cell.
    """

    def __init__(self, features: int, channels: int, stride: tuple[int, int], *, width: int = 32) -> None:
        super().__init__()
        self.cell = (int(stride[0]), int(stride[1]))
        pixels = channels * self.cell[0] * self.cell[1]
        self.layers: nn.Module = nn.Conv2d(features, pixels, 1)
        if width:
            self.layers = nn.Sequential(
                nn.Conv2d(features, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, pixels, 3, padding=1)
            )

    def forward(self, cells: Float[Tensor, "B F H W"]) -> Float[Tensor, "B C H2 W2"]:
        """Returns logits or values, as the cost reads them."""
        return unshuffle(self.layers(cells), self.cell)


class TiedDecoder(Configured):
    """An encoder run backwards, with its own weights transposed: `Enc = W s(V x)`, `Dec = V' s(W' z) + c`.

    Args:
        channels: of the frame; each has a bias `c`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, encoder: nn.Module, cells: Float[Tensor, "B F H W"]) -> Float[Tensor, "B C H2 W2"]:
        """Returns logits or values, as the cost reads them.

        Raises:
            ValueError: the encoder is not a chain of convolutions and functions of single numbers.
        """
        chain = encoder.get_submodule("layers")
        if not isinstance(chain, nn.Sequential):
            raise ValueError(
                f"layers are a {type(chain).__name__}, expected nn.Sequential; untie the decoder"
            )
        for layer in reversed(chain):
            cells = transposed(layer, cells) if isinstance(layer, nn.Conv2d) else layer(cells)
        return cells + self.bias[:, None, None]


def transposed(layer: nn.Conv2d, cells: Float[Tensor, "B F H W"]) -> Float[Tensor, "B C H2 W2"]:
    """Returns `W' z` of a convolution `W x + b` (for inputs whose size its stride divides)."""
    assert not isinstance(layer.padding, str)
    return F.conv_transpose2d(cells, layer.weight, stride=layer.stride, padding=layer.padding)


def unshuffle(cells: Float[Tensor, "B P H W"], cell: tuple[int, int]) -> Float[Tensor, "B C H2 W2"]:
    """Lays every `cell[0] * cell[1]` channels of a cell out as its pixels: an oblong `pixel_shuffle`."""
    pixels = cells.unflatten(1, (-1, *cell)).permute(0, 1, 4, 2, 5, 3)  # (B, C, H, cell0, W, cell1)
    return pixels.flatten(4, 5).flatten(2, 3)


def cropped(image: Float[Tensor, "B C H W"], like: Tensor) -> Float[Tensor, "B C H2 W2"]:
    """Cuts what was filled up below and on the right off again."""
    return image[..., : like.shape[-2], : like.shape[-1]]
