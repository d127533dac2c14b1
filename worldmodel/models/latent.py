"""Latent variables: what the past does not determine. The forward model does not know which it holds.

A latent offers a prior to draw from, a posterior that reads the future while training, and its regulariser's
value.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn


@dataclass(frozen=True)
class LatentSample:
    """A latent drawn while training, and its regulariser (KL for a Gaussian), one number per sample."""

    z: Float[Tensor, "B Z"]
    penalty: Float[Tensor, " B"]


@runtime_checkable
class Latent(Protocol):
    """What the forward model asks of a latent, which is an `nn.Module` besides."""

    dim: int
    config: dict[str, Any]

    def prior(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B Z"]:
        """Draws from the prior, as at planning time."""
        ...

    def posterior(
        self,
        hidden: Float[Tensor, "B C H W"],
        target: Float[Tensor, "B F H W"],
        generator: Generator | None = None,
    ) -> LatentSample:
        """Draws from what the encoded future suggests, while training."""
        ...


class NoLatent(nn.Module):
    """The empty latent: the model is deterministic."""

    dim = 0

    def __init__(self) -> None:
        super().__init__()
        self.config = {"_target_": "worldmodel.models.NoLatent"}

    def prior(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B 0"]:
        """Returns the only value there is."""
        return hidden.new_zeros(hidden.shape[0], 0)

    def posterior(
        self,
        hidden: Float[Tensor, "B C H W"],
        target: Float[Tensor, "B F H W"],
        generator: Generator | None = None,
    ) -> LatentSample:
        """Returns the only value there is, at no cost."""
        return LatentSample(self.prior(hidden), hidden.new_zeros(hidden.shape[0]))


class GaussianLatent(nn.Module):
    """`z ~ N(0, I)`; an encoder of the future predicts `q(z | hidden, target) = N(mu, diag sigma^2)`.

    z-dropout (Henaff et al. 2019, section 3.1): with probability `z_dropout`, drawn *per sample*, the
    posterior is replaced by a draw from the prior, so that the model cannot leave to z what the action
    explains. Such samples pay no KL.

    Args:
        channels: of the hidden state.
        features: of the encoded target.
        dim: of z.
        z_dropout: probability in [0, 1].
        beta: weight of the KL in the loss; the value reported as `penalty` is already multiplied by it.
    """

    def __init__(
        self, channels: int, features: int, *, dim: int = 32, z_dropout: float = 0.5, beta: float = 1e-6
    ) -> None:
        super().__init__()
        self.config = {
            "_target_": "worldmodel.models.GaussianLatent",
            "channels": channels,
            "features": features,
            "dim": dim,
            "z_dropout": z_dropout,
            "beta": beta,
        }
        self.dim, self.z_dropout, self.beta = dim, z_dropout, beta
        self.body = nn.Sequential(
            nn.Conv2d(channels + features, channels, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d((4, 2)),
            nn.Flatten(),
        )
        self.head = nn.Linear(channels * 8, 2 * dim)

    def prior(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B Z"]:
        """Returns a draw from `N(0, I)`."""
        return torch.randn(
            hidden.shape[0], self.dim, generator=generator, device=hidden.device, dtype=hidden.dtype
        )

    def infer(
        self, hidden: Float[Tensor, "B C H W"], target: Float[Tensor, "B F H W"]
    ) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """Returns the posterior's mean and log variance."""
        mean, log_var = self.head(self.body(torch.cat([hidden, target], dim=1))).chunk(2, dim=-1)
        return mean, log_var.clamp(-8.0, 4.0)

    def posterior(
        self,
        hidden: Float[Tensor, "B C H W"],
        target: Float[Tensor, "B F H W"],
        generator: Generator | None = None,
    ) -> LatentSample:
        """Returns a draw from the posterior (or, dropped, from the prior) and `beta * KL(q || p)`."""
        mean, log_var = self.infer(hidden, target)
        noise = self.prior(hidden, generator)
        is_dropped = (
            torch.rand(mean.shape[0], generator=generator, device=mean.device) < self.z_dropout
        ).unsqueeze(-1)
        z = torch.where(is_dropped, noise, mean + noise * (0.5 * log_var).exp())
        kl = gaussian_kl(mean, log_var) * (~is_dropped.squeeze(-1))
        return LatentSample(z, self.beta * kl)


def gaussian_kl(mean: Float[Tensor, "*B Z"], log_var: Float[Tensor, "*B Z"]) -> Float[Tensor, "*B"]:
    """Returns `KL(N(mean, exp(log_var)) || N(0, I)) = -1/2 sum(1 + log_var - mean^2 - exp(log_var))`."""
    return -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(-1)
