"""Blocks of forward models; dropout masks are arguments, so that a trajectory can keep one for its length."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn, rand


def dropout_mask(
    batch: int, channels: int, rate: float, *, like: Tensor, generator: Generator | None = None
) -> Float[Tensor, "B C 1 1"]:
    """Returns a channel-wise inverted-dropout mask: 0 with probability `rate`, else `1 / (1 - rate)`."""
    uniform = rand(batch, channels, 1, 1, generator=generator, device=like.device, dtype=like.dtype)
    return (uniform >= rate).to(like.dtype) / (1.0 - rate)


class ResidualBlock(nn.Module):
    """`h + conv(mask * act(conv(act(h))))`; the last convolution starts at zero, the block as identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.SiLU()
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(
        self, h: Float[Tensor, "B C H W"], mask: Float[Tensor, "#B C 1 1"] | None = None
    ) -> Float[Tensor, "B C H W"]:
        """Args: mask: a `dropout_mask`, or None for no dropout."""
        inner = self.act(self.first(self.act(h)))
        return h + self.second(inner if mask is None else inner * mask)


class LatentExpander(nn.Module):
    """Spreads a latent vector over the hidden map: linear to a coarse map, mixed in, upsampled."""

    coarse = (8, 3)

    def __init__(self, dim: int, channels: int, cells: tuple[int, ...], width: int = 8) -> None:
        super().__init__()
        self.dim, self.cells, self.width = dim, cells, width
        if dim:
            self.linear = nn.Linear(dim, width * self.coarse[0] * self.coarse[1])
            self.mix = nn.Conv2d(width, channels, 1, bias=False)
            nn.init.normal_(self.mix.weight, std=0.02)

    def forward(self, latent: Float[Tensor, "B Z"]) -> Float[Tensor, "B C H W"] | float:
        """Returns what to add to the hidden map; nothing for an empty latent."""
        if not self.dim:
            return 0.0
        coarse = self.linear(latent).unflatten(1, (self.width, *self.coarse))
        return F.interpolate(self.mix(coarse), size=self.cells, mode="bilinear", align_corners=False)


class MapExpander(nn.Module):
    """Spreads a latent that is a coarse map over the hidden map: each patch where it belongs, mixed in.

    Args:
        dim: of a patch's latent.
        channels: of the hidden map.
        cells: rows and columns of the hidden map.
        grid: rows and columns of patches; z holds them row by row.
    """

    def __init__(self, dim: int, channels: int, cells: tuple[int, ...], grid: tuple[int, int]) -> None:
        super().__init__()
        self.cells, self.grid = cells, grid
        self.patch = tuple(-(-size // num) for size, num in zip(cells, grid, strict=True))
        self.mix = nn.Conv2d(dim, channels, 1, bias=False)
        nn.init.normal_(self.mix.weight, std=0.2)

    def forward(self, latent: Float[Tensor, "B Z"]) -> Float[Tensor, "B C H W"]:
        """Returns what to add to the hidden map."""
        rows, columns = self.grid
        coarse = latent.unflatten(1, (rows, columns, -1)).permute(0, 3, 1, 2)
        spread = F.interpolate(
            self.mix(coarse), scale_factor=self.patch, mode="bilinear", align_corners=False
        )
        return spread[..., : self.cells[0], : self.cells[1]]
