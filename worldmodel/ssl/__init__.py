"""Self-supervised and energy-based objectives: encoders of frames, learnt without labels.

An *encoder* makes a map of a frame, an *objective* tells from clips how good it is, and that is all there is
to know: `configs/ssl` puts one together from parts for each system of the literature (docs/ssl.md).
"""

from worldmodel.ssl.clip import FrameClip, blank, from_window
from worldmodel.ssl.corrupt import Corruption, GaussianNoise, MaskingNoise
from worldmodel.ssl.objective import Losses, Objective, Pretraining, Sum
from worldmodel.ssl.reconstruct import Reconstruct
from worldmodel.ssl.source import EveryFrame, Pair, Source

__all__ = [
    "Corruption",
    "EveryFrame",
    "FrameClip",
    "GaussianNoise",
    "Losses",
    "MaskingNoise",
    "Objective",
    "Pair",
    "Pretraining",
    "Reconstruct",
    "Source",
    "Sum",
    "blank",
    "from_window",
]
