"""Decoders: a feature map -> a frame."""

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


def unshuffle(cells: Float[Tensor, "B P H W"], cell: tuple[int, int]) -> Float[Tensor, "B C H2 W2"]:
    """Lays every `cell[0] * cell[1]` channels of a cell out as its pixels: an oblong `pixel_shuffle`."""
    pixels = cells.unflatten(1, (-1, *cell)).permute(0, 1, 4, 2, 5, 3)  # (B, C, H, cell0, W, cell1)
    return pixels.flatten(4, 5).flatten(2, 3)


def cropped(image: Float[Tensor, "B C H W"], like: Tensor) -> Float[Tensor, "B C H2 W2"]:
    """Cuts what was filled up below and on the right off again."""
    return image[..., : like.shape[-2], : like.shape[-1]]
