"""A vision transformer as an encoder of frames: patches -> tokens -> a map, or a part of it."""

from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from worldmodel.nn.configured import Configured


@runtime_checkable
class PartialEncoder(Protocol):
    """An encoder that can leave cells of a frame unread, and saves the work."""

    def read(self, frame: Tensor, cells: Tensor) -> Tensor:
        """Returns the features `(B, N, F)` of some cells, computed from these alone."""
        ...


class PatchTransformer(Configured):
    """Attention between the patches of a frame (Dosovitskiy et al. 2021), without a class token.

    `(B, C, H, W)` -> `(B, features, H / rows, W / columns)`; of any size, as positions are sines.

    Args:
        in_channels: of the frame.
        features: of the map, a multiple of four and of the heads.
        patch: rows and columns of a patch [px].
        depth: blocks.
        heads: of each attention.

    Example:
        >>> PatchTransformer(3, 16, patch=(8, 4))(torch.rand(2, 3, 32, 16)).shape
        torch.Size([2, 16, 4, 4])
    """

    def __init__(
        self,
        in_channels: int = 3,
        features: int = 32,
        *,
        patch: Any = (8, 4),
        depth: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.features, self.stride = features, (int(patch[0]), int(patch[1]))
        self.tokenise = nn.Conv2d(in_channels, features, self.stride, stride=self.stride)
        self.blocks = attention_blocks(features, depth=depth, heads=heads)
        self.norm = nn.LayerNorm(features)

    def forward(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F H2 W2"]:
        """Args: frame: in [0, 1], padded to multiples of the patch."""
        tokens = self.tokens(frame)
        grid = (frame.shape[-2] // self.stride[0], frame.shape[-1] // self.stride[1])
        return self.norm(self.blocks(tokens)).mT.unflatten(2, grid)

    def read(self, frame: Float[Tensor, "B C H W"], cells: Int[Tensor, "B N"]) -> Float[Tensor, "B N F"]:
        """Returns the features of some cells, numbered row by row: the others are no tokens at all."""
        return self.norm(self.blocks(rows_of(self.tokens(frame), cells)))

    def tokens(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N F"]:
        """Returns what the first block reads: each patch by itself, and where it is."""
        patches = self.tokenise(frame)
        return patches.flatten(2).mT + positions(patches.shape[-2:], self.features).to(patches)


def attention_blocks(features: int, *, depth: int, heads: int) -> nn.Sequential:
    """Returns blocks of attention and a perceptron, each normalised at its entry."""
    return nn.Sequential(
        *(
            nn.TransformerEncoderLayer(
                features,
                heads,
                4 * features,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(depth)
        )
    )


def positions(grid: torch.Size | tuple[int, int], features: int) -> Float[Tensor, "N F"]:
    """Returns sines and cosines of the row and of the column of each cell of a grid, row by row.

    Raises:
        ValueError: features are no multiple of four.
    """
    if features % 4:
        raise ValueError(f"{features} features, expected a multiple of 4: sine, cosine of row and column")
    frequency = 100.0 ** -(torch.arange(features // 4) / (features // 4))
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    angles = [place.flatten()[:, None] * frequency for place in (rows, columns)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], 1)


def rows_of(tokens: Float[Tensor, "B N F"], index: Int[Tensor, "B K"]) -> Float[Tensor, "B K F"]:
    """Returns for each row the tokens of these numbers."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


def read_cells(
    encoder: nn.Module, frame: Float[Tensor, "B C H W"], cells: Int[Tensor, "B N"], *, stride: tuple[int, int]
) -> Float[Tensor, "B N F"]:
    """Returns the features of some cells of a padded frame; the encoder sees nothing of the others.

    An encoder that cannot leave cells out is shown black ones, which is naive: it works on all of them.
    """
    if isinstance(encoder, PartialEncoder):
        return encoder.read(frame, cells)
    grid = (frame.shape[-2] // stride[0], frame.shape[-1] // stride[1])
    seen = F.one_hot(cells, grid[0] * grid[1]).sum(1).to(frame).unflatten(1, grid)
    mask = seen.repeat_interleave(stride[0], 1).repeat_interleave(stride[1], 2)
    return rows_of(encoder(frame * mask[:, None]).flatten(2).mT, cells)
