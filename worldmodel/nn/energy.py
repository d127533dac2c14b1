"""Energies with latents, and inference of the latents: what forward models and encoders have in common.

F = min_z E(z)        or, at a temperature,        F = -1/b log mean_z exp(-b E(z))
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Regulariser = Callable[[Float[Tensor, "B *Z"]], Float[Tensor, " B"]]
"""Latents of all steps -> what they cost."""


@dataclass(frozen=True)
class EnergyTerms:
    """The three terms of an energy, each already weighted."""

    error: Float[Tensor, " B"]
    distance: Float[Tensor, " B"]
    regulariser: Float[Tensor, " B"]

    @property
    def total(self) -> Float[Tensor, " B"]:
        """`E(x, y, z)`."""
        return self.error + self.distance + self.regulariser


EnergyFn = Callable[[Float[Tensor, "B *Z"]], EnergyTerms]
"""Latents -> energy of each window: all that an inference of z ever sees."""


@dataclass(frozen=True)
class InferredLatent:
    """Latents and their energy `E(x, y, z)`, window by window."""

    latents: Float[Tensor, "B *Z"]
    energy: Float[Tensor, " B"]


def infer_by_gradient(
    energy: EnergyFn, start: Float[Tensor, "B *Z"], *, num_steps: int = 20, lr: float = 0.1
) -> InferredLatent:
    """Returns the best latents on a path of Adam from `start`, `start` among them: never worse than it.

    For latents that are numbers. Where z is one of a set (categories, codes, winners), use `infer_by_search`.
    """
    z = start.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=lr)
    best, lowest = start.detach(), start.new_full((len(start),), torch.inf)
    with torch.enable_grad():
        for step in range(num_steps + 1):
            value = energy(z).total
            is_better = value.detach() < lowest
            best = torch.where(is_better.view(-1, *[1] * (z.dim() - 1)), z.detach(), best)
            lowest = torch.where(is_better, value.detach(), lowest)
            if step < num_steps:
                (z.grad,) = torch.autograd.grad(value.sum(), z)
                optimizer.step()
    return InferredLatent(best, lowest)


def infer_by_search(
    energy: EnergyFn, candidates: Iterable[Float[Tensor, "B *Z"]]
) -> tuple[InferredLatent, Float[Tensor, "N B"]]:
    """Returns each window's best candidate, and the energies of all."""
    with torch.no_grad():
        pairs = [(one, energy(one).total) for one in candidates]
    if not pairs:
        raise ValueError("no candidates to search; pass at least one set of latents")
    latents, energies = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    lowest, index = energies.min(dim=0)
    return InferredLatent(latents[index, torch.arange(len(index), device=index.device)], lowest), energies


def free_energy(energies: Float[Tensor, "N B"], *, inverse_temperature: float) -> Float[Tensor, " B"]:
    """Returns `-1/b log mean_z exp(-b E)`: the mean energy for `b` near 0, the least for large `b`."""
    b = inverse_temperature
    mean = torch.logsumexp(-b * energies, dim=0) - math.log(len(energies))
    return -mean / b


def half_squared_norm(latents: Float[Tensor, "B *Z"]) -> Float[Tensor, " B"]:
    """Returns `1/2 |z|^2` over all steps: the energy of a standard Gaussian prior."""
    return 0.5 * latents.flatten(1).square().sum(-1)
