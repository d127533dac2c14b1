"""What self-supervised objectives learn from: short clips, everything but the frames optional."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodel.types import Clip, Indexed


@dataclass(frozen=True)
class FrameClip(Indexed):
    """`T` frames of one view; an image is a clip of one frame.

    Attributes:
        frames: in [0, 1].
        state: of the ego at each frame, `x, y, heading, speed` in the world frame [m, m, rad, m/s].
        action: mean action from each frame to the next [m/s^2, 1/m].
        flow: motion of each pixel to the next frame, down and to the right [px].
        label: a class, for objectives that learn from a few of them; -1 where it is not known.
    """

    frames: Float[Tensor, "B T C H W"]
    state: Float[Tensor, "B T 4"] | None = None
    action: Float[Tensor, "B T1 2"] | None = None
    flow: Float[Tensor, "B T 2 H W"] | None = None
    label: Int[Tensor, " B"] | None = None

    @property
    def batch_size(self) -> int:
        return self.frames.shape[0]


def from_window(clip: Clip, *, spacing: int = 1, dtype: torch.dtype = torch.float32) -> FrameClip:
    """Returns every `spacing`-th frame of a window of recorded traffic, counted from the first.

    The window should be drawn from the ego's own poses (`worldmodel.data.dataset.ego_future`).

    Example:
        >>> from worldmodel.data import Span, make_recording
        >>> from worldmodel.data.dataset import WindowDataset, windows
        >>> traffic = make_recording(num_vehicles=2, num_frames=30)
        >>> index = windows([traffic], [Span(traffic.name, 0, 30)], history=11, horizon=0)
        >>> window = WindowDataset([traffic], index, history=11, horizon=0).collate(index[:2])
        >>> from_window(window, spacing=5).frames.shape
        torch.Size([2, 3, 3, 117, 24])
    """
    num_steps = (clip.image.shape[1] - 1) // spacing
    used = clip.action[:, : num_steps * spacing].unflatten(1, (num_steps, spacing))
    return FrameClip(
        frames=clip.image[:, ::spacing][:, : num_steps + 1].to(dtype) / 255,
        state=clip.state[:, ::spacing][:, : num_steps + 1].to(dtype),
        action=used.mean(2).to(dtype),
    )


def blank(shape: tuple[int, int, int, int], *, batch: int = 2) -> FrameClip:
    """Returns an empty clip of `T, C, H, W`: what objectives take the sizes of their heads from."""
    num_frames, _, height, width = shape
    return FrameClip(
        frames=torch.zeros(batch, *shape),
        state=torch.zeros(batch, num_frames, 4),
        action=torch.zeros(batch, num_frames - 1, 2),
        flow=torch.zeros(batch, num_frames, 2, height, width),
        label=torch.full((batch,), -1),
    )
