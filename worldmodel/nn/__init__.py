"""Building blocks shared by forward models and self-supervised objectives."""

from worldmodel.nn.block import LatentExpander, MapExpander, ResidualBlock, dropout_mask
from worldmodel.nn.encoder import FrameEncoder
from worldmodel.nn.stack import Masks, Stack

__all__ = ["FrameEncoder", "LatentExpander", "MapExpander", "Masks", "ResidualBlock", "Stack", "dropout_mask"]
