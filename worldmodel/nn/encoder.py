"""Encoders: one frame -> a feature map. Any `nn.Module` with the same three attributes will do."""

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
