"""Building blocks shared by forward models and self-supervised objectives."""

from worldmodel.nn.block import ResidualBlock, dropout_mask
from worldmodel.nn.encoder import FrameEncoder

__all__ = ["FrameEncoder", "ResidualBlock", "dropout_mask"]
