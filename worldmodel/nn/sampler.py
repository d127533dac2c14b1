"""Samples of `p(x) = exp(-E(x)) / Z` by Markov chains, as pure functions of an energy and a generator.

They know nothing of how the energy was made: rows `(B, ...)` in, one number for each out. Without a generator
they draw from torch's global one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Generator, Tensor

Energy: TypeAlias = Callable[[Float[Tensor, "B *D"]], Float[Tensor, " B"]]
"""Rows -> energy of each."""


@dataclass(frozen=True)
class Chain:
    """Where each chain has come to, and the share of its proposals that were accepted."""

    point: Float[Tensor, "B *D"]
    accepted: Float[Tensor, " B"]


def slope(energy: Energy, point: Float[Tensor, "B *D"]) -> Float[Tensor, "B *D"]:
    """Returns the gradient of the energy at each row; constant, for whatever follows."""
    with torch.enable_grad():
        at = point.detach().requires_grad_()
        (found,) = torch.autograd.grad(energy(at).sum(), at)
    return found


@torch.no_grad()
def gibbs(
    energy: Energy, start: Float[Tensor, "B *D"], *, num_updates: int, generator: Generator | None = None
) -> Float[Tensor, "B *D"]:
    """Returns bits after single-site updates: one site of each row, drawn anew given all others.

    `p(x_i = 1 | rest) = sigmoid(E(x_i = 0) - E(x_i = 1))`.

    Args:
        start: zeros and ones.
        num_updates: as many as there are sites make about a sweep.
    """
    state = start.detach().flatten(1).clone()
    for _ in range(num_updates):
        site = torch.randint(state.shape[1], (len(state), 1), generator=generator, device=state.device)
        uniform = torch.rand(len(state), generator=generator, device=state.device, dtype=state.dtype)
        off, on = (state.scatter(1, site, value) for value in (0.0, 1.0))
        gain = energy(off.view_as(start)) - energy(on.view_as(start))
        state = torch.where((uniform < gain.sigmoid())[:, None], on, off)
    return state.view_as(start)


@torch.no_grad()
def metropolis(
    energy: Energy,
    start: Float[Tensor, "B *D"],
    *,
    step_std: float,
    num_steps: int,
    generator: Generator | None = None,
) -> Chain:
    """Returns the chains after Gaussian proposals, accepted with probability `min(1, exp(E - E'))`."""
    point, height = start.detach(), energy(start.detach())
    total = torch.zeros_like(height)
    for _ in range(num_steps):
        proposal = point + step_std * _normal(point, generator)
        higher = energy(proposal)
        is_taken = _accept(height - higher, generator)
        point, height = _chosen(is_taken, proposal, point), torch.where(is_taken, higher, height)
        total += is_taken
    return Chain(point, total / max(num_steps, 1))


def langevin(
    energy: Energy,
    start: Float[Tensor, "B *D"],
    *,
    step: float,
    num_steps: int,
    noise: float = 1.0,
    generator: Generator | None = None,
) -> Float[Tensor, "B *D"]:
    """Returns the chains after `x - step^2 / 2 grad E + noise * step * n`, never rejected.

    Where the energy's curvature is `k`, the variance is `1 / (k (1 - step^2 k / 4))` instead of `1 / k`.

    Args:
        noise: 1 samples, 0 descends; in between lies the usual compromise of short chains.
    """
    point = start.detach()
    for _ in range(num_steps):
        drift = 0.5 * step**2 * slope(energy, point)
        point = point - drift + noise * step * _normal(point, generator)
    return point


def mala(
    energy: Energy,
    start: Float[Tensor, "B *D"],
    *,
    step: float,
    num_steps: int,
    generator: Generator | None = None,
) -> Chain:
    """Returns the chains after Langevin proposals that are accepted or rejected: no bias of the step.

    A step is that of `hmc` with a single leap (Neal 2011, section 5.2).
    """
    return hmc(energy, start, step=step, num_leaps=1, num_steps=num_steps, generator=generator)


def leapfrog(
    energy: Energy,
    position: Float[Tensor, "B *D"],
    momentum: Float[Tensor, "B *D"],
    *,
    step: float,
    num_leaps: int,
) -> tuple[Float[Tensor, "B *D"], Float[Tensor, "B *D"]]:
    """Returns position and momentum after `num_leaps` steps of `H = E(x) + |p|^2 / 2`.

    Run with the momentum turned round it goes back where it came from, and its error in `H` is of the order
    of `step^2`.
    """
    momentum = momentum - 0.5 * step * slope(energy, position)
    for leap in range(num_leaps):
        position = position + step * momentum
        share = 1.0 if leap < num_leaps - 1 else 0.5
        momentum = momentum - share * step * slope(energy, position)
    return position, momentum


def hmc(
    energy: Energy,
    start: Float[Tensor, "B *D"],
    *,
    step: float,
    num_leaps: int,
    num_steps: int,
    generator: Generator | None = None,
) -> Chain:
    """Returns the chains after Hamiltonian trajectories, accepted with probability `min(1, exp(H - H'))`."""
    point = start.detach()
    total = point.new_zeros(len(point))
    for _ in range(num_steps):
        momentum = _normal(point, generator)
        proposal, late = leapfrog(energy, point, momentum, step=step, num_leaps=num_leaps)
        with torch.no_grad():
            gain = energy(point) + _kinetic(momentum) - energy(proposal) - _kinetic(late)
        is_taken = _accept(gain, generator)
        point = _chosen(is_taken, proposal, point)
        total += is_taken
    return Chain(point, total / max(num_steps, 1))


def _kinetic(momentum: Tensor) -> Float[Tensor, " B"]:
    return 0.5 * momentum.flatten(1).square().sum(-1)


def _normal(like: Tensor, generator: Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _accept(gain: Float[Tensor, " B"], generator: Generator | None) -> Tensor:
    """Returns where a proposal is taken; an energy that is not a number is never gone to."""
    uniform = torch.rand(gain.shape, generator=generator, device=gain.device, dtype=gain.dtype)
    return uniform.log() < gain


def _chosen(is_taken: Tensor, proposal: Tensor, point: Tensor) -> Tensor:
    return torch.where(is_taken.view(-1, *[1] * (point.dim() - 1)), proposal, point)
