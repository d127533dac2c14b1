"""What is seen and what is to be given back: pairs of frames taken from a clip."""

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor

from worldmodel.nn import Configured
from worldmodel.ssl.clip import FrameClip


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
    """Clip -> pairs."""

    def forward(self, clip: FrameClip) -> Pair:
        raise NotImplementedError


class EveryFrame(Source):
    """Each frame of a clip, to be given back itself."""

    def forward(self, clip: FrameClip) -> Pair:
        frame = clip.frames.flatten(0, 1)
        return Pair(frame[:, None], frame)
