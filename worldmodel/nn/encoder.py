"""Encoders: one frame -> a feature map. Any `nn.Module` with the same three attributes will do."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn.configured import Configured


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


class Backbone(Configured):
    """Your own network as an encoder.

    Args:
        network: any module that makes a map of frames; it needs a `config` (`Configured`) only if it is to be
            saved.
        features: channels of its map.
        stride: pixels per cell, along and across the road.

    Raises:
        ValueError: its map is not of that size, found out with the first frames.
    """

    def __init__(self, network: nn.Module, *, features: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.network, self.features, self.stride = network, features, stride

    def forward(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F H2 W2"]:
        """Args: frame: in [0, 1], padded to multiples of the stride."""
        cells = self.network(frame)
        rows, columns = frame.shape[-2] // self.stride[0], frame.shape[-1] // self.stride[1]
        if cells.shape[1:] != (self.features, rows, columns):
            raise ValueError(
                f"the network makes a map of {tuple(cells.shape[1:])} of frames of {tuple(frame.shape[1:])}, "
                f"but features={self.features} and stride={self.stride} promise "
                f"{(self.features, rows, columns)}; correct them"
            )
        return cells


class Frozen(Configured):
    """An encoder that is used as it is: no gradient, no dropout, no running statistics.

    Args:
        encoder: has been trained before.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.features, self.stride = features_of(encoder), stride_of(encoder)

    def train(self, mode: bool = True) -> "Frozen":
        """Stays in eval mode."""
        return super().train(False)

    def forward(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F H2 W2"]:
        """Differentiable in the frame."""
        return self.encoder(frame)


class FineTuned(Configured):
    """An encoder that goes on learning, more slowly than what is built on it.

    Args:
        encoder: has been trained before.
        lr_factor: its learning rate, as a multiple of the others' (`worldmodel.training.learning_groups`).
    """

    def __init__(self, encoder: nn.Module, *, lr_factor: float = 0.1) -> None:
        super().__init__()
        self.encoder, self.lr_factor = encoder, lr_factor
        self.features, self.stride = features_of(encoder), stride_of(encoder)

    def forward(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F H2 W2"]:
        return self.encoder(frame)


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
