"""Building blocks shared by forward models and self-supervised objectives."""

from worldmodel.nn.block import LatentExpander, MapExpander, ResidualBlock, dropout_mask
from worldmodel.nn.configured import Configured
from worldmodel.nn.decoder import MapDecoder, TiedDecoder, cropped, transposed, unshuffle
from worldmodel.nn.distributed import gather
from worldmodel.nn.encoder import Backbone, FineTuned, FrameEncoder, Frozen, encode, features_of, stride_of
from worldmodel.nn.energy import (
    EnergyFn,
    EnergyTerms,
    InferredLatent,
    Regulariser,
    free_energy,
    half_squared_norm,
    infer_by_gradient,
    infer_by_search,
)
from worldmodel.nn.frame_cost import (
    BinaryCrossEntropy,
    FrameCost,
    GradientDifference,
    LaplacianPyramid,
    QuantisedCrossEntropy,
    SquaredError,
    weighted_mean,
)
from worldmodel.nn.gaussian import (
    LOG_VAR_MAX,
    LOG_VAR_MIN,
    free_bits_kl,
    gaussian_kl,
    normal_kl,
    reparametrised,
)
from worldmodel.nn.look_ahead import LookAhead, first_seen
from worldmodel.nn.regulariser import (
    EffectiveDimension,
    ImportedFunction,
    LateralInhibition,
    LogDet,
    config_of,
    participation_ratio,
)
from worldmodel.nn.stack import Masks, Stack
from worldmodel.nn.transition import Transition
from worldmodel.nn.vit import PartialEncoder, PatchTransformer, attention_blocks, positions, read_cells

__all__ = [
    "LOG_VAR_MAX",
    "LOG_VAR_MIN",
    "Backbone",
    "BinaryCrossEntropy",
    "Configured",
    "EffectiveDimension",
    "EnergyFn",
    "EnergyTerms",
    "FineTuned",
    "FrameCost",
    "FrameEncoder",
    "Frozen",
    "GradientDifference",
    "ImportedFunction",
    "InferredLatent",
    "LaplacianPyramid",
    "LatentExpander",
    "LateralInhibition",
    "LogDet",
    "LookAhead",
    "MapDecoder",
    "MapExpander",
    "Masks",
    "PartialEncoder",
    "PatchTransformer",
    "QuantisedCrossEntropy",
    "Regulariser",
    "ResidualBlock",
    "SquaredError",
    "Stack",
    "TiedDecoder",
    "Transition",
    "attention_blocks",
    "config_of",
    "cropped",
    "dropout_mask",
    "encode",
    "features_of",
    "first_seen",
    "free_bits_kl",
    "free_energy",
    "gather",
    "gaussian_kl",
    "half_squared_norm",
    "infer_by_gradient",
    "infer_by_search",
    "normal_kl",
    "participation_ratio",
    "positions",
    "read_cells",
    "reparametrised",
    "stride_of",
    "transposed",
    "unshuffle",
    "weighted_mean",
]
