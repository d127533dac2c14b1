"""Self-supervised and energy-based objectives: encoders of frames, learnt without labels.

An *encoder* makes a map of a frame, an *objective* tells from clips how good it is, and that is all there is
to know: `configs/ssl` puts one together from parts for each system of the literature (docs/ssl.md).
"""

from worldmodel.ssl.adversarial import (
    Adversarial,
    Critique,
    EnergyMargin,
    FadingNoise,
    FrameGenerator,
    Logistic,
    Wasserstein,
)
from worldmodel.ssl.agreement import (
    Agreement,
    BarlowTwins,
    Cosine,
    InfoNCE,
    NTXent,
    PairMargin,
    SelfDistillation,
    SIGReg,
    VICReg,
)
from worldmodel.ssl.bottleneck import FeatureShare, GaussianBottleneck, Saturating
from worldmodel.ssl.chain import (
    Contrast,
    FromData,
    FromNoise,
    Gibbs,
    Hamiltonian,
    Langevin,
    Metropolis,
    Persistent,
)
from worldmodel.ssl.classify import Classify, Question, Transform
from worldmodel.ssl.clip import FrameClip, blank, from_window
from worldmodel.ssl.cluster import Clusters
from worldmodel.ssl.columns import Columns, Means, NonNegativeUnit, Orthonormal, Principal, Unit
from worldmodel.ssl.consistency import CommonFate, Counting, Disagreement
from worldmodel.ssl.corrupt import (
    Corruption,
    Downscaled,
    DroppedChannels,
    GaussianNoise,
    HiddenBox,
    HiddenPatches,
    MaskingNoise,
    random_subset,
)
from worldmodel.ssl.deconvolutional import Deconvolutional, Switches
from worldmodel.ssl.density import Density, EnergyHead, FrameEnergy, PushUp, ReconstructionEnergy
from worldmodel.ssl.dictionary import (
    ConvDictionary,
    Dictionary,
    LocalDictionary,
    NetworkDictionary,
    PatchDictionary,
)
from worldmodel.ssl.embedding import embed, embed_all
from worldmodel.ssl.estimator import (
    Bits,
    Blurred,
    Enumeration,
    FittedNoise,
    MinimumFlow,
    NoiseContrastive,
    RatioMatching,
    Reference,
    ScoreMatching,
)
from worldmodel.ssl.frame_penalty import Contraction
from worldmodel.ssl.head import ConvLISTAHead, Head, Labels, LinearHead, LISTAHead, RectifiedHead
from worldmodel.ssl.infer import FISTA, ISTA, Guess, Inference, Nearest, PerSample, Problem, Project
from worldmodel.ssl.joint import JointEmbed
from worldmodel.ssl.judged import Judged, PatchCritic
from worldmodel.ssl.latent import Latent
from worldmodel.ssl.masked import MaskedAutoEncoder
from worldmodel.ssl.mixture import Mixture
from worldmodel.ssl.multilayer import Multilayer
from worldmodel.ssl.objective import Frames, Losses, Objective, Pretraining, Sum
from worldmodel.ssl.penalty import (
    L1,
    Ball,
    Group,
    LogEnergy,
    Neighbourhood,
    NonNegative,
    Penalty,
    Topographic,
)
from worldmodel.ssl.predict import PredictHidden, PredictNext
from worldmodel.ssl.prepare import Centre, Prepare, Whiten
from worldmodel.ssl.pretext import ArrowOfTime, Flipped, Jigsaw, RelativePatch, Rotated, ShuffledFrames
from worldmodel.ssl.read_out import ReadOut
from worldmodel.ssl.reconstruct import Reconstruct
from worldmodel.ssl.source import (
    Colours,
    EgoState,
    EveryFrame,
    FutureFrames,
    MaskedFrames,
    OtherChannels,
    Pair,
    Source,
    coloured,
)
from worldmodel.ssl.stacked import Level, Stacked
from worldmodel.ssl.temporal import PoolSlowness, Temporal
from worldmodel.ssl.tokens import MaskedTokens, NextTokens
from worldmodel.ssl.view import Changed, Neighbours, Shuffled, TwoViews, Views

__all__ = [
    "FISTA",
    "ISTA",
    "L1",
    "Adversarial",
    "Agreement",
    "ArrowOfTime",
    "Ball",
    "BarlowTwins",
    "Bits",
    "Blurred",
    "Centre",
    "Changed",
    "Classify",
    "Clusters",
    "Colours",
    "Columns",
    "CommonFate",
    "Contraction",
    "Contrast",
    "ConvDictionary",
    "ConvLISTAHead",
    "Corruption",
    "Cosine",
    "Counting",
    "Critique",
    "Deconvolutional",
    "Density",
    "Dictionary",
    "Disagreement",
    "Downscaled",
    "DroppedChannels",
    "EgoState",
    "EnergyHead",
    "EnergyMargin",
    "Enumeration",
    "EveryFrame",
    "FadingNoise",
    "FeatureShare",
    "FittedNoise",
    "Flipped",
    "FrameClip",
    "FrameEnergy",
    "FrameGenerator",
    "Frames",
    "FromData",
    "FromNoise",
    "FutureFrames",
    "GaussianBottleneck",
    "GaussianNoise",
    "Gibbs",
    "Group",
    "Guess",
    "Hamiltonian",
    "Head",
    "HiddenBox",
    "HiddenPatches",
    "Inference",
    "InfoNCE",
    "Jigsaw",
    "JointEmbed",
    "Judged",
    "LISTAHead",
    "Labels",
    "Langevin",
    "Latent",
    "Level",
    "LinearHead",
    "LocalDictionary",
    "LogEnergy",
    "Logistic",
    "Losses",
    "MaskedAutoEncoder",
    "MaskedFrames",
    "MaskedTokens",
    "MaskingNoise",
    "Means",
    "Metropolis",
    "MinimumFlow",
    "Mixture",
    "Multilayer",
    "NTXent",
    "Nearest",
    "Neighbourhood",
    "Neighbours",
    "NetworkDictionary",
    "NextTokens",
    "NoiseContrastive",
    "NonNegative",
    "NonNegativeUnit",
    "Objective",
    "Orthonormal",
    "OtherChannels",
    "Pair",
    "PairMargin",
    "PatchCritic",
    "PatchDictionary",
    "Penalty",
    "PerSample",
    "Persistent",
    "PoolSlowness",
    "PredictHidden",
    "PredictNext",
    "Prepare",
    "Pretraining",
    "Principal",
    "Problem",
    "Project",
    "PushUp",
    "Question",
    "RatioMatching",
    "ReadOut",
    "Reconstruct",
    "ReconstructionEnergy",
    "RectifiedHead",
    "Reference",
    "RelativePatch",
    "Rotated",
    "SIGReg",
    "Saturating",
    "ScoreMatching",
    "SelfDistillation",
    "Shuffled",
    "ShuffledFrames",
    "Source",
    "Stacked",
    "Sum",
    "Switches",
    "Temporal",
    "Topographic",
    "Transform",
    "TwoViews",
    "Unit",
    "VICReg",
    "Views",
    "Wasserstein",
    "Whiten",
    "blank",
    "coloured",
    "embed",
    "embed_all",
    "from_window",
    "random_subset",
]
