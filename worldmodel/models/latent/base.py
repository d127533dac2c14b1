"""What every latent offers, and the empty one."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

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


def map_encoder(channels_in: int, channels: int) -> nn.Sequential:
    """Returns a network from maps `(B, channels_in, H, W)` to codes `(B, 8 * channels)`, for any `H, W`.

    Posteriors read hidden map and encoded future with it, learnt priors the hidden map alone.
    """
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d((4, 2)),
        nn.Flatten(),
    )
