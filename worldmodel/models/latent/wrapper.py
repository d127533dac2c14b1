"""Latents around latents: whatever limits the inner one, these limit it further."""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from worldmodel.models.latent.base import Latent, LatentSample


class TruncatedLatent(nn.Module):
    """Keeps the first few dimensions of a latent and zeroes the rest; how many is random.

    The number kept is geometric with mean `kept`, drawn per sample (nested dropout, Rippel et al. 2014). The
    first dimensions survive most often, so they learn what matters most. Draws from the prior are truncated
    like those from the posterior.

    Args:
        latent: to be truncated.
        kept: mean number of dimensions that survive; the first always does.
    """

    def __init__(self, latent: Latent, *, kept: float = 4.0) -> None:
        super().__init__()
        if kept < 1:
            raise ValueError(f"kept={kept} would leave nothing of some latents; expected at least 1")
        self.config = {
            "_target_": "worldmodel.models.latent.TruncatedLatent",
            "latent": latent.config,
            "kept": kept,
        }
        self.latent: Latent = latent
        self.kept, self.dim = kept, latent.dim

    def prior(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B Z"]:
        """Returns a truncated draw from the latent's prior."""
        return self._truncate(self.latent.prior(hidden, generator), generator)

    def posterior(
        self,
        hidden: Float[Tensor, "B C H W"],
        target: Float[Tensor, "B F H W"],
        generator: Generator | None = None,
    ) -> LatentSample:
        """Returns a truncated draw from the latent's posterior, and its penalty."""
        sample = self.latent.posterior(hidden, target, generator)
        return LatentSample(self._truncate(sample.z, generator), sample.penalty)

    def _truncate(self, z: Float[Tensor, "B Z"], generator: Generator | None) -> Float[Tensor, "B Z"]:
        uniform = torch.rand(len(z), 1, generator=generator, device=z.device)
        log_survival = math.log(1 - 1 / self.kept) if self.kept > 1 else -math.inf
        last = uniform.clamp_min(1e-12).log() / log_survival  # index of the last one kept, rounded down
        return z * (torch.arange(z.shape[-1], device=z.device) <= last)


class LatentDropout(nn.Module):
    """z-dropout for any latent: in training, with probability `rate` per sample, a free draw from the prior.

    As in `GaussianLatent`, it keeps the model from leaving to z what the action explains.
    """

    def __init__(self, latent: Latent, *, rate: float = 0.5) -> None:
        super().__init__()
        self.config = {
            "_target_": "worldmodel.models.latent.LatentDropout",
            "latent": latent.config,
            "rate": rate,
        }
        self.latent: Latent = latent
        self.rate, self.dim = rate, latent.dim

    def prior(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B Z"]:
        """Returns a draw from the latent's prior."""
        return self.latent.prior(hidden, generator)

    def posterior(
        self,
        hidden: Float[Tensor, "B C H W"],
        target: Float[Tensor, "B F H W"],
        generator: Generator | None = None,
    ) -> LatentSample:
        """Returns the latent's posterior draw, or, dropped, its prior's."""
        sample = self.latent.posterior(hidden, target, generator)
        other = self.latent.prior(hidden, generator)
        rate = self.rate if self.training else 0.0
        is_dropped = torch.rand(len(other), generator=generator, device=other.device) < rate
        return LatentSample(torch.where(is_dropped[:, None], other, sample.z), sample.penalty * (~is_dropped))
