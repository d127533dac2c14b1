"""A latent limited by any function of z, and functions to limit it by."""

import importlib
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from worldmodel.models.latent.base import LatentSample, map_encoder
from worldmodel.models.latent.empirical import CodeBank, EmpiricalPrior


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


class LogDet(nn.Module):
    """Low effective dimension: `1/2 log det(I + Cov(e) / noise^2)`, the same for all rows of a batch [nat].

    With Gaussian noise of that standard deviation, no z carries more: of all encodings with a covariance, the
    Gaussian one says most. As a sum of logarithms of eigenvalues it prefers few large ones.
    """

    def __init__(self, noise: float = 1.0) -> None:
        super().__init__()
        self.config = {"_target_": "worldmodel.models.latent.LogDet", "noise": noise}
        self.noise = noise

    def forward(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, " B"]:
        matrix = covariance(z) / self.noise**2
        identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        return (0.5 * torch.logdet(identity + matrix)).expand(len(z))


class EffectiveDimension(nn.Module):
    """Low effective dimension: the `participation_ratio` of a batch, whatever its scale.

    At most one less than the rows of the batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.config = {"_target_": "worldmodel.models.latent.EffectiveDimension"}

    def forward(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, " B"]:
        return participation_ratio(z).expand(len(z))


class LateralInhibition(nn.Module):
    """Competition: `1/2 |e|^T S |e|`, what units cost that are active together (Szlam et al. 2011).

    `S` is one for units of different groups: groups compete, the units of a group work together.

    Args:
        dim: of z.
        groups: of equal size; `dim` of them when left out, so that one unit wins.
    """

    inhibition: Tensor

    def __init__(self, dim: int, *, groups: int | None = None) -> None:
        super().__init__()
        groups = groups or dim
        if dim % groups:
            raise ValueError(f"{dim} units do not divide into {groups} groups; change one of them")
        self.config = {
            "_target_": "worldmodel.models.latent.LateralInhibition",
            "dim": dim,
            "groups": groups,
        }
        member = torch.arange(dim) // (dim // groups)
        self.register_buffer("inhibition", (member[:, None] != member).float(), persistent=False)

    def forward(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, " B"]:
        active = z.abs()
        return 0.5 * ((active @ self.inhibition.to(z.dtype)) * active).sum(-1)


class ImportedFunction(nn.Module):
    """A function that a config names by its place, `package.module.function`; called with tensors only.

    Raises:
        TypeError: for anything but a function written in Python.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.config = {"_target_": "worldmodel.models.latent.ImportedFunction", "path": path}
        module, _, name = path.rpartition(".")
        self.function = getattr(importlib.import_module(module), name)
        if not isinstance(self.function, FunctionType):
            raise TypeError(f"{path} is a {type(self.function).__name__}, expected a function")

    def forward(self, z: Tensor) -> Tensor:
        return self.function(z)


def config_of(function: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """Returns the config of a module, or of a function that can be imported.

    Raises:
        ValueError: for anything else, such as a lambda.
    """
    if isinstance(function, nn.Module):
        return dict(function.config)  # type: ignore[arg-type]
    place = function.__module__, getattr(function, "__qualname__", "")
    if getattr(importlib.import_module(place[0]), place[1], None) is not function:
        raise ValueError(
            f"{function} is not found as {'.'.join(place)}, so no checkpoint could name it; "
            "define it at the top of a module, or write an nn.Module with a `config`"
        )
    return ImportedFunction(".".join(place)).config


def covariance(z: Float[Tensor, "B Z"]) -> Float[Tensor, "Z Z"]:
    """Returns the covariance of a batch (divided by its size), in single precision at least."""
    with torch.autocast(z.device.type, enabled=False):
        exact = z if z.dtype == torch.float64 else z.float()
        centred = exact - exact.mean(0)
        return centred.T @ centred / len(z)


def participation_ratio(z: Float[Tensor, "B Z"]) -> Float[Tensor, ""]:
    """Returns `(tr C)^2 / tr C^2` of the covariance: `n` where `n` directions share all variance equally."""
    matrix = covariance(z)
    return matrix.trace().square() / matrix.square().sum().clamp_min(1e-12)
