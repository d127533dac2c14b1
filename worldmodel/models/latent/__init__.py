"""Latent variables: what the past does not determine. The forward model does not know which it holds.

A latent offers a prior to draw from, a posterior that reads the future while training, and its regulariser's
value. Each limits in its own way what z can carry.
"""

from worldmodel.models.latent.base import Latent, LatentSample, NoLatent
from worldmodel.models.latent.gaussian import (
    ConditionalGaussian,
    GaussianLatent,
    StandardGaussian,
    free_bits_kl,
    gaussian_kl,
    normal_kl,
)

__all__ = [
    "ConditionalGaussian",
    "GaussianLatent",
    "Latent",
    "LatentSample",
    "NoLatent",
    "StandardGaussian",
    "free_bits_kl",
    "gaussian_kl",
    "normal_kl",
]
