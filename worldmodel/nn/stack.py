"""Plain stacks of layers whose dropout masks are arguments."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Masks = Sequence[Float[Tensor, "_ _ 1 1"]]
"""Dropout masks, one for each site: rows (or one for all rows) by channels."""


class Stack(nn.Module):
    """Layers with a leaky rectifier and locked dropout after each but the last.

    Args:
        layers: convolutions or linear layers.
        slope: of the rectifier below zero.

    Attributes:
        sites: channels of the masks it takes, one mask after each layer but the last.

    Example:
        >>> from torch import nn
        >>> Stack(nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 2)).sites
        (8, 6)
    """

    def __init__(self, *layers: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, slope: float = 0.2) -> None:
        super().__init__()
        self.layers, self.slope = nn.ModuleList(layers), slope
        self.sites = tuple(_width(layer) for layer in layers[:-1])

    def forward(self, x: Tensor, masks: Masks | None = None) -> Tensor:
        """Args: masks: one `dropout_mask` for each of `sites`, or None for no dropout."""
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index < len(self.sites):
                x = F.leaky_relu(x, self.slope)
                if masks is not None:
                    x = x * (masks[index] if x.dim() == 4 else masks[index].flatten(1))
        return x


def _width(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
