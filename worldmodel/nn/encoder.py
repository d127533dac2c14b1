"""Encoders: one frame -> a feature map. Any `nn.Module` with the same three attributes will do."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class FrameEncoder(nn.Module):
    """Two strided convolutions: `(B, C, H, W)` -> `(B, features, ceil(H / 4), ceil(W / 2))`.

    Attributes:
        features: channels of the map.
        stride: pixels per cell, along and across the road.
        config: what rebuilds it.
    """

    stride = (4, 2)

    def __init__(self, in_channels: int = 3, features: int = 16) -> None:
        super().__init__()
        self.config = {
            "_target_": "worldmodel.nn.FrameEncoder",
            "in_channels": in_channels,
            "features": features,
        }
        self.features = features
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, features, (4, 4), stride=(2, 2), padding=(1, 1)),
            nn.SiLU(),
            nn.Conv2d(features, features, (4, 3), stride=(2, 1), padding=(1, 1)),
        )

    def forward(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F H2 W2"]:
        """Args: frame: in [0, 1], padded to multiples of the stride."""
        return self.layers(frame)


def features_of(encoder: nn.Module) -> int:
    """Returns the channels of an encoder's map."""
    return int(encoder.features)  # type: ignore[arg-type]


def stride_of(encoder: nn.Module) -> tuple[int, int]:
    """Returns the pixels of a cell of an encoder's map, along and across."""
    along, across = encoder.stride  # type: ignore[misc]
    return int(along), int(across)


def encode(encoder: nn.Module, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F H2 W2"]:
    """Returns the map of frames of any size: filled up below and on the right to multiples of the stride."""
    along, across = stride_of(encoder)
    height, width = frame.shape[-2:]
    return encoder(F.pad(frame, (0, -width % across, 0, -height % along)))
