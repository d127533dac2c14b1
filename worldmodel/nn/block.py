"""Convolutional blocks whose dropout masks are arguments: a trajectory can keep one for its length."""

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
