"""Self-supervised and energy-based objectives: encoders of frames, learnt without labels.

An *encoder* makes a map of a frame, an *objective* tells from clips how good it is, and that is all there is
to know: `configs/ssl` puts one together from parts for each system of the literature (docs/ssl.md).
"""

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
from worldmodel.ssl.clip import FrameClip, blank, from_window
from worldmodel.ssl.corrupt import Corruption, GaussianNoise, MaskingNoise
from worldmodel.ssl.density import Density, EnergyHead, FrameEnergy, PushUp, ReconstructionEnergy
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
from worldmodel.ssl.objective import Losses, Objective, Pretraining, Sum
from worldmodel.ssl.reconstruct import Reconstruct
from worldmodel.ssl.source import EveryFrame, Pair, Source

__all__ = [
    "Bits",
    "Blurred",
    "Contrast",
    "Corruption",
    "Density",
    "EnergyHead",
    "Enumeration",
    "EveryFrame",
    "FittedNoise",
    "FrameClip",
    "FrameEnergy",
    "FromData",
    "FromNoise",
    "GaussianNoise",
    "Gibbs",
    "Hamiltonian",
    "Langevin",
    "Losses",
    "MaskingNoise",
    "Metropolis",
    "MinimumFlow",
    "NoiseContrastive",
    "Objective",
    "Pair",
    "Persistent",
    "Pretraining",
    "PushUp",
    "RatioMatching",
    "Reconstruct",
    "ReconstructionEnergy",
    "Reference",
    "ScoreMatching",
    "Source",
    "Sum",
    "blank",
    "from_window",
]
