"""Thin Lightning modules and what goes around them."""

from worldmodel.training.calibration import calibrate_uncertainty, uncertainty_of
from worldmodel.training.forward_module import ForwardModule, with_latent
from worldmodel.training.optimizer import warmup_cosine

__all__ = ["ForwardModule", "calibrate_uncertainty", "uncertainty_of", "warmup_cosine", "with_latent"]
