"""Gaussian latents: the variational autoencoder's, with a standard or a learnt conditional prior."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from worldmodel.models.latent.base import LatentSample, map_encoder
from worldmodel.nn.gaussian import LOG_VAR_MAX, LOG_VAR_MIN, free_bits_kl, normal_kl, reparametrised


class StandardGaussian(nn.Module):
    """The prior `N(0, I)`, whatever the past."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.config = {"_target_": "worldmodel.models.latent.StandardGaussian", "dim": dim}
        self.dim = dim

    def forward(self, hidden: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """Returns mean and log variance."""
        nil = hidden.new_zeros(hidden.shape[0], self.dim)
        return nil, nil


class ConditionalGaussian(nn.Module):
    """The learnt prior `p(z | hidden) = N(mu, diag sigma^2)`; it starts as `N(0, I)`."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.config = {
            "_target_": "worldmodel.models.latent.ConditionalGaussian",
            "channels": channels,
            "dim": dim,
        }
        self.dim = dim
        self.body = map_encoder(channels, channels)
        self.head = nn.Linear(channels * 8, 2 * dim)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, hidden: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """Returns mean and log variance."""
        mean, log_var = self.head(self.body(hidden)).chunk(2, dim=-1)
        return mean, log_var.clamp(LOG_VAR_MIN, LOG_VAR_MAX)


class GaussianLatent(nn.Module):
    """`z ~ p(z | hidden)`; an encoder of the future predicts `q(z | hidden, target) = N(mu, diag sigma^2)`.

    z-dropout (Henaff et al. 2019, section 3.1): in training, with probability `z_dropout`, drawn *per
    sample*, the posterior is replaced by a draw from the prior, so that the model cannot leave to z what the
    action explains. Such samples pay no KL.

    Args:
        channels: of the hidden state.
        features: of the encoded target.
        dim: of z.
        z_dropout: probability in [0, 1].
        beta: weight of the KL in the loss; the value reported as `penalty` is already multiplied by it.
        free_bits: what each dimension may carry for nothing [nat] (`free_bits_kl`).
        prior: hidden map -> mean and log variance; `StandardGaussian` when left out.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        *,
        dim: int = 32,
        z_dropout: float = 0.5,
        beta: float = 1e-6,
        free_bits: float = 0.0,
        prior: StandardGaussian | ConditionalGaussian | None = None,
    ) -> None:
        super().__init__()
        self.belief = StandardGaussian(dim) if prior is None else prior
        if self.belief.dim != dim:
            raise ValueError(f"the prior has {self.belief.dim} dimensions, the latent {dim}; make them equal")
        self.config = {
            "_target_": "worldmodel.models.GaussianLatent",
            "channels": channels,
            "features": features,
            "dim": dim,
            "z_dropout": z_dropout,
            "beta": beta,
            "free_bits": free_bits,
            "prior": self.belief.config,
        }
        self.dim, self.z_dropout, self.beta, self.free_bits = dim, z_dropout, beta, free_bits
        self.body = map_encoder(channels + features, channels)
        self.head = nn.Linear(channels * 8, 2 * dim)

    def prior(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B Z"]:
        """Returns a draw from the prior."""
        mean, log_var = self.belief(hidden)
        return reparametrised(mean, log_var, self._noise(hidden, generator))

    def infer(
        self, hidden: Float[Tensor, "B C H W"], target: Float[Tensor, "B F H W"]
    ) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """Returns the posterior's mean and log variance."""
        mean, log_var = self.head(self.body(torch.cat([hidden, target], dim=1))).chunk(2, dim=-1)
        return mean, log_var.clamp(LOG_VAR_MIN, LOG_VAR_MAX)

    def posterior(
        self,
        hidden: Float[Tensor, "B C H W"],
        target: Float[Tensor, "B F H W"],
        generator: Generator | None = None,
    ) -> LatentSample:
        """Returns a draw from the posterior (or, dropped, from the prior) and `beta * KL(q || p)`."""
        mean, log_var = self.infer(hidden, target)
        prior_mean, prior_log_var = self.belief(hidden)
        noise = self._noise(hidden, generator)
        rate = self.z_dropout if self.training else 0.0
        is_dropped = (torch.rand(mean.shape[0], generator=generator, device=mean.device) < rate).unsqueeze(-1)
        drawn = reparametrised(mean, log_var, noise)
        z = torch.where(is_dropped, reparametrised(prior_mean, prior_log_var, noise), drawn)
        each = normal_kl(mean - prior_mean, log_var, prior_log_var)
        kl = free_bits_kl(each, self.free_bits) * (~is_dropped.squeeze(-1))
        return LatentSample(z, self.beta * kl)

    def _noise(self, hidden: Tensor, generator: Generator | None) -> Float[Tensor, "B Z"]:
        return torch.randn(
            hidden.shape[0], self.dim, generator=generator, device=hidden.device, dtype=hidden.dtype
        )
