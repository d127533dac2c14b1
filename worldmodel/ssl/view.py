"""Two views of the same scenes: changed copies, neighbours in time, shuffled tiles.

What two views share is what an encoder learns to see, what differs it learns to ignore. A raster of traffic
is no photograph: cutting cars out teaches an encoder not to see them, so views here move and shade, and time
is the best of all augmentations.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from worldmodel.nn import Configured
from worldmodel.ssl.clip import FrameClip


class TwoViews(NamedTuple):
    """Frames whose rows belong together."""

    one: Float[Tensor, "N C H W"]
    other: Float[Tensor, "N C H W"]


class Views(Configured):
    """Clip -> two views of its scenes."""

    def forward(self, clip: FrameClip) -> TwoViews:
        raise NotImplementedError


class Changed(Views):
    """The first frame, changed twice at random: shifted and scaled, mirrored, shaded.

    Args:
        shift: at most this share of the frame, in both directions.
        scale: between one less and one more than this share.
        mirror: probability to swap left and right.
        shade: brightness and contrast change by at most this share.
    """

    def __init__(
        self, *, shift: float = 0.1, scale: float = 0.1, mirror: float = 0.0, shade: float = 0.2
    ) -> None:
        super().__init__()
        self.shift, self.scale, self.mirror, self.shade = shift, scale, mirror, shade

    def forward(self, clip: FrameClip) -> TwoViews:
        frame = clip.frames[:, 0]
        return TwoViews(self.change(frame), self.change(frame))

    def change(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Returns the frames, each changed in its own way."""
        batch = len(frame)
        scale = 1 + self.scale * _symmetric(frame, batch, 2)
        scale[:, 0] *= 1 - 2 * (torch.rand(batch, device=frame.device) < self.mirror).to(frame.dtype)
        matrix = torch.diag_embed(scale)
        affine = torch.cat([matrix, 2 * self.shift * _symmetric(frame, batch, 2).unsqueeze(-1)], dim=2)
        where = F.affine_grid(affine, list(frame.shape), align_corners=False)
        moved = F.grid_sample(frame, where, align_corners=False, padding_mode="border")
        contrast, brightness = (1 + self.shade * _symmetric(frame, batch, 2)).unbind(1)
        mean = moved.mean((1, 2, 3), keepdim=True)
        shaded = (moved - mean) * contrast.view(-1, 1, 1, 1) + mean * brightness.view(-1, 1, 1, 1)
        return shaded.clamp(0.0, 1.0)


class Neighbours(Views):
    """A random frame, and the one `gap` later: what is near in time is alike (Taylor et al. 2011).

    Args:
        gap: frames of the clip.
    """

    def __init__(self, gap: int = 1) -> None:
        super().__init__()
        self.gap = gap

    def forward(self, clip: FrameClip) -> TwoViews:
        batch, num_frames = clip.frames.shape[:2]
        if num_frames <= self.gap:
            raise ValueError(f"neighbours {self.gap} frames apart in clips of {num_frames}; lengthen clips")
        rows = torch.arange(batch, device=clip.frames.device)
        first = torch.randint(num_frames - self.gap, (batch,), device=clip.frames.device)
        return TwoViews(clip.frames[rows, first], clip.frames[rows, first + self.gap])


class Shuffled(Views):
    """The first frame, and its strips in another order: PIRL's view, which forgets where things are.

    Args:
        strips: along the frame.
    """

    def __init__(self, strips: int = 4) -> None:
        super().__init__()
        self.strips = strips

    def forward(self, clip: FrameClip) -> TwoViews:
        frame = clip.frames[:, 0]
        height = frame.shape[-2] // self.strips * self.strips
        tiles = frame[..., :height, :].unflatten(-2, (self.strips, -1))  # (B, C, S, h, W)
        order = torch.rand(len(frame), self.strips, device=frame.device).argsort(1)
        order = order[:, None, :, None, None].expand(-1, *tiles.shape[1:2], -1, *tiles.shape[3:])
        mixed = frame.clone()
        mixed[..., :height, :] = tiles.gather(2, order).flatten(2, 3)
        return TwoViews(frame, mixed)


def _symmetric(like: Tensor, *shape: int) -> Tensor:
    """Uniform in [-1, 1]."""
    return 2 * torch.rand(*shape, device=like.device, dtype=like.dtype) - 1
