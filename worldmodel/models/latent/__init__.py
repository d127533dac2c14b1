"""Latent variables: what the past does not determine. The forward model does not know which it holds.

A latent offers a prior to draw from, a posterior that reads the future while training, and its regulariser's
value. Each limits in its own way what z can carry:

- `gaussian`: by the information from a prior, standard or learnt;
- `discrete`: by the number of values it has;
- `sparse`: by how many of its entries are not zero: L1, L0, winners;
- `regularised`: by any function: dimension, inhibition, your own;
- `wrapper`: any of these, truncated at random or dropped;
- `local`: one of these for each patch of the road.
"""

from worldmodel.models.latent.base import Latent, LatentSample, NoLatent, map_encoder
from worldmodel.models.latent.discrete import (
    CategoricalLatent,
    ConditionalCategorical,
    EmaCodebook,
    GradientCodebook,
    UniformCategorical,
    VectorQuantisedLatent,
    categorical_kl,
)
from worldmodel.models.latent.empirical import CodeBank, EmpiricalPrior, SpikeAndSlab
from worldmodel.models.latent.gaussian import ConditionalGaussian, GaussianLatent, StandardGaussian
from worldmodel.models.latent.kind import is_discrete, takes_any_value
from worldmodel.models.latent.local import LocalLatent
from worldmodel.models.latent.regularised import RegularisedLatent
from worldmodel.models.latent.sparse import (
    InnerInference,
    L0Latent,
    Shrinkage,
    SparseLatent,
    WinnerTakeAllLatent,
    hard_concrete,
    open_probability,
)
from worldmodel.models.latent.wrapper import LatentDropout, TruncatedLatent
from worldmodel.nn.gaussian import free_bits_kl, gaussian_kl, normal_kl
from worldmodel.nn.regulariser import (
    EffectiveDimension,
    ImportedFunction,
    LateralInhibition,
    LogDet,
    participation_ratio,
)

__all__ = [
    "CategoricalLatent",
    "CodeBank",
    "ConditionalCategorical",
    "ConditionalGaussian",
    "EffectiveDimension",
    "EmaCodebook",
    "EmpiricalPrior",
    "GaussianLatent",
    "GradientCodebook",
    "ImportedFunction",
    "InnerInference",
    "L0Latent",
    "Latent",
    "LatentDropout",
    "LatentSample",
    "LateralInhibition",
    "LocalLatent",
    "LogDet",
    "NoLatent",
    "RegularisedLatent",
    "Shrinkage",
    "SparseLatent",
    "SpikeAndSlab",
    "StandardGaussian",
    "TruncatedLatent",
    "UniformCategorical",
    "VectorQuantisedLatent",
    "WinnerTakeAllLatent",
    "categorical_kl",
    "free_bits_kl",
    "gaussian_kl",
    "hard_concrete",
    "is_discrete",
    "map_encoder",
    "normal_kl",
    "open_probability",
    "participation_ratio",
    "takes_any_value",
]
