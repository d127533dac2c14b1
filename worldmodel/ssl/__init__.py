"""Self-supervised and energy-based objectives: encoders of frames, learnt without labels.

An *encoder* makes a map of a frame, an *objective* tells from clips how good it is, and that is all there is
to know: `configs/ssl` puts one together from parts for each system of the literature (docs/ssl.md).
"""

from worldmodel.ssl.clip import FrameClip, blank, from_window
from worldmodel.ssl.objective import Losses, Objective, Pretraining, Sum
from worldmodel.ssl.reconstruct import Reconstruct

__all__ = [
    "FrameClip",
    "Losses",
    "Objective",
    "Pretraining",
    "Reconstruct",
    "Sum",
    "blank",
    "from_window",
]
