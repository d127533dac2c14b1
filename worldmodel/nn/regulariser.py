"""What limits a code: functions of a batch of codes `(B, Z)` -> `(B,)`, and how a config names them.

Any such function will do; a checkpoint has to be able to name it (`config_of`).
"""

import importlib
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LogDet(nn.Module):
    """Low effective dimension: `1/2 log det(I + Cov(e) / noise^2)`, the same for all rows of a batch [nat].

    With Gaussian noise of that standard deviation, no z carries more: of all encodings with a covariance, the
    Gaussian one says most. As a sum of logarithms of eigenvalues it prefers few large ones.
    """

    def __init__(self, noise: float = 1.0) -> None:
        super().__init__()
        self.config = {"_target_": "worldmodel.nn.LogDet", "noise": noise}
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
        self.config = {"_target_": "worldmodel.nn.EffectiveDimension"}

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
            "_target_": "worldmodel.nn.LateralInhibition",
            "dim": dim,
            "groups": groups,
        }
        member = torch.arange(dim) // (dim // groups)
        self.register_buffer("inhibition", (member[:, None] != member).float(), persistent=False)

    def forward(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, " B"]:
        active = z.abs()
        return 0.5 * ((active @ self.inhibition.to(z.dtype)) * active).sum(-1)


class ImportedFunction(nn.Module):
    """A function that a config names by its place, `package.module.function`.

    Raises:
        TypeError: for anything but a function written in Python.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.config = {"_target_": "worldmodel.nn.ImportedFunction", "path": path}
        module, _, name = path.rpartition(".")
        self.function = getattr(importlib.import_module(module), name)
        if not isinstance(self.function, FunctionType):
            raise TypeError(f"{path} is a {type(self.function).__name__}, expected a function")

    def forward(self, *arguments: Any, **options: Any) -> Tensor:
        return self.function(*arguments, **options)


def config_of(function: Callable[..., Tensor]) -> dict[str, Any]:
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
