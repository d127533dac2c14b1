"""Thin Lightning modules and what goes around them."""

from worldmodel.training.calibration import (
    calibrate_disagreement,
    calibrate_uncertainty,
    expert_disagreement,
    uncertainty_of,
)
from worldmodel.training.forward_module import ForwardModule, with_latent
from worldmodel.training.normalisation import set_normalisation
from worldmodel.training.optimizer import warmup_cosine

__all__ = [
    "ForwardModule",
    "calibrate_disagreement",
    "calibrate_uncertainty",
    "expert_disagreement",
    "set_normalisation",
    "uncertainty_of",
    "warmup_cosine",
    "with_latent",
]
