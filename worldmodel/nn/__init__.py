"""Building blocks shared by forward models and self-supervised objectives."""

from worldmodel.nn.block import LatentExpander, MapExpander, ResidualBlock, dropout_mask
from worldmodel.nn.configured import Configured
from worldmodel.nn.decoder import MapDecoder, TiedDecoder, cropped, transposed, unshuffle
from worldmodel.nn.distributed import gather
from worldmodel.nn.encoder import Backbone, FineTuned, FrameEncoder, Frozen, encode, features_of, stride_of
from worldmodel.nn.frame_cost import (
    BinaryCrossEntropy,
    FrameCost,
    GradientDifference,
    LaplacianPyramid,
    QuantisedCrossEntropy,
    SquaredError,
    weighted_mean,
)
from worldmodel.nn.stack import Masks, Stack

__all__ = [
    "Backbone",
    "BinaryCrossEntropy",
    "Configured",
    "FineTuned",
    "FrameCost",
    "FrameEncoder",
    "Frozen",
    "GradientDifference",
    "LaplacianPyramid",
    "LatentExpander",
    "MapDecoder",
    "MapExpander",
    "Masks",
    "QuantisedCrossEntropy",
    "ResidualBlock",
    "SquaredError",
    "Stack",
    "TiedDecoder",
    "cropped",
    "dropout_mask",
    "encode",
    "features_of",
    "gather",
    "stride_of",
    "transposed",
    "unshuffle",
    "weighted_mean",
]
