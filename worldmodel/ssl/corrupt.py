"""Corruptions of frames: what is left for the encoder to see when the frame is to be given back whole.

Each is a module `frame (B, C, H, W) -> (corrupted frame, weight)`; the weight says where the cost looks,
`(B, 1 or C, H, W)`, None: everywhere. They draw from torch's global generator.
"""

import torch
from jaxtyping import Float
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
