"""Objectives that give the frame back: `E = C(y, Dec(Enc(corrupt(y))))`."""

import torch.nn.functional as F
from torch import nn

from worldmodel.nn import MapDecoder, cropped, encode, features_of, stride_of
from worldmodel.ssl.clip import FrameClip
from worldmodel.ssl.objective import Losses, Objective


class Reconstruct(Objective):
    """An auto-encoder of single frames.

    Args:
        width: channels of the decoder's hidden layer; 0: linear.
    """

    decoder: MapDecoder

    def __init__(self, *, width: int = 32) -> None:
        super().__init__()
        self.width = width

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        channels = clip.frames.shape[2]
        self.decoder = MapDecoder(features_of(encoder), channels, stride_of(encoder), width=self.width)

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        frame = clip.frames.flatten(0, 1)
        logits = cropped(self.decoder(encode(encoder, frame)), frame)
        return {"loss": F.binary_cross_entropy_with_logits(logits, frame)}
