"""Pushing an energy up at samples of the model: where chains begin, and how they move."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import Configured
from worldmodel.nn.sampler import gibbs, hmc, langevin, metropolis
from worldmodel.ssl.density import PushUp
from worldmodel.ssl.objective import Losses
from worldmodel.ssl.push_up import contrast


class Contrast(PushUp):
    """Pushes up what a sampler of the model finds: `contrast`, the gradient of maximum likelihood.

    Args:
        sampler: energy and start -> samples.
        start: where its chains begin; `FromData`: contrastive divergence (Hinton 2002).
        ridge: weight of the mean squared energy, which keeps it from drifting off (Du and Mordatch 2019).
    """

    def __init__(self, sampler: Configured, *, start: Configured | None = None, ridge: float = 0.0) -> None:
        super().__init__()
        self.sampler, self.ridge = sampler, ridge
        self.start = FromData() if start is None else start

    def attach(self, data: Float[Tensor, "B *D"]) -> None:
        self.start.attach(data)  # type: ignore[operator]

    def forward(self, energy: nn.Module, data: Float[Tensor, "B *D"]) -> Losses:
        samples = self.sampler(energy, self.start(data))
        if self.training:
            self.start.keep(samples)  # type: ignore[operator]
        gap = contrast(energy, data, samples)
        if not self.ridge:
            return {"loss": gap}
        size = energy(torch.cat([data, samples])).square().mean()
        return {"loss": gap + self.ridge * size, "gap": gap, "size": size}


class FromData(Configured):
    """Chains begin at the data."""

    def attach(self, data: Float[Tensor, "B *D"]) -> None:
        """Needs nothing."""

    def forward(self, data: Float[Tensor, "B *D"]) -> Float[Tensor, "B *D"]:
        return data

    def keep(self, samples: Float[Tensor, "N *D"]) -> None:
        """Forgets them."""


class FromNoise(FromData):
    """Chains begin anywhere in [0, 1]."""

    def forward(self, data: Float[Tensor, "B *D"]) -> Float[Tensor, "B *D"]:
        return torch.rand_like(data)


class Persistent(Configured):
    """Chains go on from where they were the step before (Tieleman 2008).

    Args:
        num_chains: any number.
        restart: share that begins anew at random bits or values, so that no chain is stuck for ever.
    """

    chains: Tensor

    def __init__(self, num_chains: int = 64, *, restart: float = 0.0) -> None:
        super().__init__()
        self.num_chains, self.restart = num_chains, restart

    def attach(self, data: Float[Tensor, "B *D"]) -> None:
        """Makes the chains: random bits, which are values too."""
        self.register_buffer("chains", self._fresh(data.new_empty(self.num_chains, *data.shape[1:])))

    def forward(self, data: Float[Tensor, "B *D"]) -> Float[Tensor, "N *D"]:
        is_new = torch.rand(self.num_chains, device=data.device) < self.restart
        return torch.where(is_new.view(-1, *[1] * (data.dim() - 1)), self._fresh(self.chains), self.chains)

    def keep(self, samples: Float[Tensor, "N *D"]) -> None:
        """Goes on from there."""
        self.chains.copy_(samples.detach())

    def _fresh(self, like: Tensor) -> Tensor:
        return torch.randint(2, like.shape, device=like.device).to(like)


class Gibbs(Configured):
    """`gibbs`, for bits.

    Args:
        num_updates: bits that are drawn anew.
    """

    def __init__(self, num_updates: int = 8) -> None:
        super().__init__()
        self.num_updates = num_updates

    def forward(self, energy: nn.Module, start: Float[Tensor, "B *D"]) -> Float[Tensor, "B *D"]:
        return gibbs(energy, start, num_updates=self.num_updates)


class Metropolis(Configured):
    """`metropolis`."""

    def __init__(self, num_steps: int = 10, *, step_std: float = 0.05) -> None:
        super().__init__()
        self.num_steps, self.step_std = num_steps, step_std

    def forward(self, energy: nn.Module, start: Float[Tensor, "B *D"]) -> Float[Tensor, "B *D"]:
        return metropolis(energy, start, step_std=self.step_std, num_steps=self.num_steps).point


class Langevin(Configured):
    """`langevin`; with little noise, a noisy kick and a descent."""

    def __init__(self, num_steps: int = 10, *, step: float = 0.1, noise: float = 1.0) -> None:
        super().__init__()
        self.num_steps, self.step, self.noise = num_steps, step, noise

    def forward(self, energy: nn.Module, start: Float[Tensor, "B *D"]) -> Float[Tensor, "B *D"]:
        return langevin(energy, start, step=self.step, num_steps=self.num_steps, noise=self.noise)


class Hamiltonian(Configured):
    """`hmc`; with one leap, `mala`."""

    def __init__(self, num_steps: int = 2, *, step: float = 0.1, num_leaps: int = 5) -> None:
        super().__init__()
        self.num_steps, self.step, self.num_leaps = num_steps, step, num_leaps

    def forward(self, energy: nn.Module, start: Float[Tensor, "B *D"]) -> Float[Tensor, "B *D"]:
        return hmc(energy, start, step=self.step, num_leaps=self.num_leaps, num_steps=self.num_steps).point
