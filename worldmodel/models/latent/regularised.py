"""A latent limited by any function of z."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from worldmodel.models.latent.base import LatentSample, map_encoder
from worldmodel.models.latent.empirical import CodeBank, EmpiricalPrior
from worldmodel.nn.regulariser import config_of


class RegularisedLatent(nn.Module):
    """`z = e + noise * eps`: an encoding of the future, blurred, whose regulariser `R(e)` is any function.

    The noise makes regularisers of size meaningful: an encoding that evades them by becoming small drowns,
    and no decoder can undo it. Without noise and regulariser, z is unlimited.

    Args:
        channels: of the hidden state.
        features: of the encoded target.
        regulariser: encodings `(B, Z)` -> `(B,)`: a module with a `config`, or a function that can be
            imported, so that a checkpoint can name it.
        dim: of z.
        weight: of the regulariser in the loss.
        noise: standard deviation of the blur.
        prior: an `EmpiricalPrior`; `CodeBank` when left out.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        *,
        regulariser: Callable[[Tensor], Tensor],
        dim: int = 32,
        weight: float = 1e-5,
        noise: float = 1.0,
        prior: EmpiricalPrior | None = None,
    ) -> None:
        super().__init__()
        self.empirical: EmpiricalPrior = CodeBank(dim) if prior is None else prior
        self.config = {
            "_target_": "worldmodel.models.latent.RegularisedLatent",
            "channels": channels,
            "features": features,
            "regulariser": config_of(regulariser),
            "dim": dim,
            "weight": weight,
            "noise": noise,
            "prior": self.empirical.config,
        }
        self.regulariser = regulariser
        self.dim, self.weight, self.noise = dim, weight, noise
        self.body = map_encoder(channels + features, channels)
        self.head = nn.Linear(channels * 8, dim)

    def prior(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B Z"]:
        """Returns a latent that was seen while training."""
        return self.empirical(hidden, generator)

    def infer(
        self, hidden: Float[Tensor, "B C H W"], target: Float[Tensor, "B F H W"]
    ) -> Float[Tensor, "B Z"]:
        """Returns the encoding, without noise."""
        return self.head(self.body(torch.cat([hidden, target], dim=1)))

    def posterior(
        self,
        hidden: Float[Tensor, "B C H W"],
        target: Float[Tensor, "B F H W"],
        generator: Generator | None = None,
    ) -> LatentSample:
        """Returns the blurred encoding, and `weight * R(e)`."""
        mean = self.infer(hidden, target)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        z = mean + self.noise * noise
        if self.training:
            self.empirical.observe(z.detach())
        return LatentSample(z, self.weight * self.regulariser(mean))
