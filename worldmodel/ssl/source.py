"""What is seen and what is to be given back: pairs of frames taken from a clip."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldmodel.nn import Configured
from worldmodel.ssl.clip import FrameClip

LIGHTNESS, CHROMA = 100.0, 110.0
"""What one unit of a frame of lightness, and of colour, is in CIE Lab."""


@dataclass(frozen=True)
class Pair:
    """Frames that the encoder sees, and the one that the decoder is to give back.

    Attributes:
        seen: `S` frames, each encoded by itself; the decoder reads their maps together.
        target: what is to be given back; several frames lie in the channels, one after another.
        weight: of each pixel of the target in the cost, `(B, 1 or C2, H, W)`; None: all alike.
        visible: frames whose maps the decoder may read; None: all.
    """

    seen: Float[Tensor, "B S C H W"]
    target: Float[Tensor, "B C2 H W"]
    weight: Float[Tensor, "B C3 H W"] | None = None
    visible: Bool[Tensor, "B S"] | None = None

    def corrupted(self, seen: Tensor, weight: Tensor | None) -> "Pair":
        """Returns the pair with other frames to see, and the weight the corruption gives, if it gives one."""
        return replace(self, seen=seen, weight=self.weight if weight is None else weight)


class Source(Configured):
    """Clip -> pairs. What it draws, it draws from torch's global generator.

    Attributes:
        wants_frames: whether a target ends with a frame like those seen.
    """

    wants_frames = True

    def forward(self, clip: FrameClip) -> Pair:
        raise NotImplementedError


class EveryFrame(Source):
    """Each frame of a clip, to be given back itself."""

    def forward(self, clip: FrameClip) -> Pair:
        frame = clip.frames.flatten(0, 1)
        return Pair(frame[:, None], frame)


class OtherChannels(Source):
    """Some channels of each frame, to be told from others.

    Args:
        seen: channels that are left in the frame; the others are zero.
        target: channels to be given back.
    """

    wants_frames = False

    def __init__(self, *, seen: Sequence[int] = (0,), target: Sequence[int] = (1,)) -> None:
        super().__init__()
        self.seen, self.target = list(seen), list(target)

    def forward(self, clip: FrameClip) -> Pair:
        frame = clip.frames.flatten(0, 1)
        kept = torch.zeros(frame.shape[1], 1, 1, dtype=frame.dtype, device=frame.device)
        kept[self.seen] = 1.0
        return Pair((frame * kept)[:, None], frame[:, self.target])


class Colours(Source):
    """The lightness of RGB frames, in all three channels, to be coloured: `a` and `b` of CIE Lab."""

    wants_frames = False

    def forward(self, clip: FrameClip) -> Pair:
        from kornia.color import rgb_to_lab  # slow to import, and needed for photographs only

        lab = rgb_to_lab(clip.frames.flatten(0, 1))
        lightness = lab[:, :1].expand(-1, 3, -1, -1) / LIGHTNESS
        return Pair(lightness[:, None], lab[:, 1:] / CHROMA)


def coloured(lightness: Float[Tensor, "B 3 H W"], colour: Float[Tensor, "B 2 H W"]) -> Tensor:
    """Returns the RGB frames of what `Colours` shows and a colour for it."""
    from kornia.color import lab_to_rgb

    return lab_to_rgb(torch.cat([lightness[:, :1] * LIGHTNESS, colour * CHROMA], 1))


class FutureFrames(Source):
    """The last frames of a clip, to be told from those before.

    Args:
        num_future: frames to be predicted.
        num_seen: frames before them that are seen; None: all.

    Raises:
        ValueError: the clip is too short.
    """

    def __init__(self, *, num_future: int = 1, num_seen: int | None = None) -> None:
        super().__init__()
        self.num_future, self.num_seen = num_future, num_seen

    def forward(self, clip: FrameClip) -> Pair:
        num_frames = clip.frames.shape[1]
        num_seen = num_frames - self.num_future if self.num_seen is None else self.num_seen
        if not 0 < num_seen <= num_frames - self.num_future:
            raise ValueError(
                f"{num_seen} frames seen and {self.num_future} future ones in a clip of {num_frames}; "
                "lengthen it"
            )
        past, future = clip.frames.split([num_frames - self.num_future, self.num_future], 1)
        return Pair(past[:, -num_seen:], future.flatten(1, 2))


class MaskedFrames(Source):
    """Whole frames of a clip, drawn at random, to be told from those before and after.

    Hidden frames are not encoded as black ones: the decoder gets zeros in place of their maps.

    Args:
        num_hidden: of the frames of a clip.
    """

    wants_frames = False  # which of them was hidden differs from row to row

    def __init__(self, *, num_hidden: int = 1) -> None:
        super().__init__()
        self.num_hidden = num_hidden

    def forward(self, clip: FrameClip) -> Pair:
        batch, num_frames, channels = clip.frames.shape[:3]
        rank = torch.rand(batch, num_frames, device=clip.frames.device).argsort(1)
        hidden = rank < self.num_hidden
        weight = hidden.to(clip.frames.dtype).repeat_interleave(channels, 1)[..., None, None]
        target = clip.frames.flatten(1, 2)
        return Pair(clip.frames, target, weight.expand_as(target), ~hidden)


class EgoState(Source):
    """What the ego's instruments say, to be told from frames: speed, and the last action. The other modality.

    The same for all pixels; `scale` makes them alike in size.

    Args:
        num_seen: frames, the last of the clip; one does not show motion.
        scale: of speed, acceleration and curvature [1/(m/s), 1/(m/s^2), m].
    """

    wants_frames = False

    def __init__(self, *, num_seen: int = 2, scale: Sequence[float] = (0.1, 1.0, 100.0)) -> None:
        super().__init__()
        self.num_seen, self.scale = num_seen, list(scale)

    def forward(self, clip: FrameClip) -> Pair:
        if clip.state is None or clip.action is None:
            raise ValueError("the clip has no states or actions of the ego; take another source")
        told = torch.cat([clip.state[:, -1, 3:], clip.action[:, -1]], 1)
        target = (told * told.new_tensor(self.scale))[..., None, None]
        return Pair(clip.frames[:, -self.num_seen :], target.expand(-1, -1, *clip.frames.shape[-2:]))
