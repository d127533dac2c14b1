"""Corruptions of frames: what is left for the encoder to see when the frame is to be given back whole.

Each is a module `frame (B, C, H, W) -> (corrupted frame, weight)`; the weight says where the cost looks,
`(B, 1 or C, H, W)`, None: everywhere. They draw from torch's global generator.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from worldmodel.nn import Configured


class Corruption(Configured):
    """Frame -> corrupted frame and the weight of its pixels in the cost."""

    def forward(self, frame: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B C H W"], Tensor | None]:
        raise NotImplementedError


class GaussianNoise(Corruption):
    """Adds white noise.

    Args:
        std: of the noise, in units of the frame.
    """

    def __init__(self, *, std: float = 0.3) -> None:
        super().__init__()
        self.std = std

    def forward(self, frame: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B C H W"], Tensor | None]:
        return frame + self.std * torch.randn_like(frame), None


class MaskingNoise(Corruption):
    """Sets pixels to zero, each channel for itself (Vincent et al. 2008).

    Args:
        probability: of a pixel to be lost.
    """

    def __init__(self, *, probability: float = 0.25) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, frame: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B C H W"], Tensor | None]:
        return frame * (torch.rand_like(frame) >= self.probability), None


class HiddenBox(Corruption):
    """Hides a rectangle at a random place, where the cost looks then (Pathak et al. 2016).

    Args:
        share: of height and width of the frame.
        fill: what is seen there.
    """

    def __init__(self, *, share: float = 0.5, fill: float = 0.0) -> None:
        super().__init__()
        self.share, self.fill = share, fill

    def forward(self, frame: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B C H W"], Tensor | None]:
        inside = [_interval(frame, dim, self.share) for dim in (-2, -1)]
        hidden = inside[0][:, None, :, None] & inside[1][:, None, None, :]
        return frame.masked_fill(hidden, self.fill), hidden.to(frame.dtype)


class HiddenPatches(Corruption):
    """Hides patches of a grid at random, where the cost looks then: naive masking, as the patches are black.

    Args:
        patch: rows and columns of a patch [px].
        ratio: of patches hidden.
    """

    def __init__(self, *, patch: Sequence[int] = (8, 4), ratio: float = 0.75) -> None:
        super().__init__()
        self.patch, self.ratio = (int(patch[0]), int(patch[1])), ratio

    def forward(self, frame: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B C H W"], Tensor | None]:
        (batch, _, height, width), (rows, columns) = frame.shape, self.patch
        grid = (-(-height // rows), -(-width // columns))
        hidden = random_subset(batch, grid[0] * grid[1], self.ratio, device=frame.device).unflatten(1, grid)
        mask = hidden.repeat_interleave(rows, 1).repeat_interleave(columns, 2)[:, None, :height, :width]
        return frame.masked_fill(mask, 0.0), mask.to(frame.dtype)


class DroppedChannels(Corruption):
    """Keeps one channel of each frame, drawn at random; the others are faint noise (Doersch et al. 2015).

    What two channels tell about a place only together (chromatic aberration) is lost.
    """

    def forward(self, frame: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B C H W"], Tensor | None]:
        kept = torch.randint(frame.shape[1], (frame.shape[0],), device=frame.device)
        one = F.one_hot(kept, frame.shape[1]).to(frame.dtype)[..., None, None]
        noise = 0.01 * frame.std() * torch.randn_like(frame)
        return one * frame + (1 - one) * noise, None


class Downscaled(Corruption):
    """Shows blocks of pixels by their mean: a frame of fewer pixels, drawn at the old size.

    Args:
        factor: rows and columns of a block [px].
    """

    def __init__(self, *, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, frame: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B C H W"], Tensor | None]:
        small = F.avg_pool2d(frame, self.factor, ceil_mode=True)
        return F.interpolate(small, size=frame.shape[-2:], mode="nearest"), None


def random_subset(batch: int, count: int, ratio: float, *, device: torch.device) -> Bool[Tensor, "B N"]:
    """Returns, for each row, a random subset of `round(ratio * count)` of as many things."""
    rank = torch.rand(batch, count, device=device).argsort(1).argsort(1)
    return rank < round(ratio * count)


def _interval(frame: Tensor, dim: int, share: float) -> Bool[Tensor, "B L"]:
    """Returns for each row an interval of a share of a dimension, at a random place."""
    size = frame.shape[dim]
    length = max(1, round(share * size))
    start = torch.randint(size - length + 1, (frame.shape[0], 1), device=frame.device)
    place = torch.arange(size, device=frame.device)
    return (start <= place) & (place < start + length)
