"""Sparse latents: few entries of z are not zero, by their L1 norm, their number, or competition."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from worldmodel.models.latent.base import LatentSample, map_encoder
from worldmodel.models.latent.discrete import categorical_kl, perturb
from worldmodel.models.latent.empirical import EmpiricalPrior, SpikeAndSlab
from worldmodel.nn.distributed import gather
from worldmodel.nn.regulariser import config_of
from worldmodel.nn.sparse import fista, lasso_energy, soft_threshold, unit_columns


class Shrinkage(nn.Module):
    """Amortised inference: a learnt step of shrinkage, `soft_threshold(W u, weight)` (Gregor and LeCun 2010).

    Args:
        code: of the encoded future `u`.
        dim: of z.
    """

    def __init__(self, code: int, dim: int) -> None:
        super().__init__()
        self.config = {"_target_": "worldmodel.models.latent.Shrinkage", "code": code, "dim": dim}
        self.linear = nn.Linear(code, dim)

    def forward(
        self, code: Float[Tensor, "B D"], dictionary: Float[Tensor, "D Z"], weight: float
    ) -> Float[Tensor, "B Z"]:
        return soft_threshold(self.linear(code), weight)


class InnerInference(nn.Module):
    """Inference by optimisation of the sparse code's energy; gradients pass through its steps.

    Args:
        num_steps: of the solver.
        solver: `worldmodel.nn.fista`, `worldmodel.nn.ista`, or another such function that can be imported.
    """

    def __init__(self, num_steps: int = 20, solver: Callable[..., Tensor] = fista) -> None:
        super().__init__()
        self.num_steps, self.solver = num_steps, solver
        self.config = {
            "_target_": "worldmodel.models.latent.InnerInference",
            "num_steps": num_steps,
            "solver": config_of(solver),
        }

    def forward(
        self, code: Float[Tensor, "B D"], dictionary: Float[Tensor, "D Z"], weight: float
    ) -> Float[Tensor, "B Z"]:
        return self.solver(code, dictionary, weight, num_steps=self.num_steps)


class SparseLatent(nn.Module):
    """A sparse code of the encoded future, over a dictionary with columns of norm one.

    An encoder makes a code `u` of fixed length of hidden map and target. z explains it at the energy

        1/2 |u - D z|^2 + sparsity |z|_1

    which is the penalty, and what `InnerInference` minimises. As `u` and the columns of `D` have fixed
    lengths, z cannot evade its norm by becoming small.

    Args:
        channels: of the hidden state.
        features: of the encoded target.
        dim: of z: atoms of the dictionary.
        code: dimensions of `u`.
        sparsity: weight of the L1 norm within the energy; entries of `u` are of size one.
        weight: of the energy in the loss.
        inference: `(u, dictionary, sparsity) -> z`; `Shrinkage(code, dim)` when left out.
        prior: an `EmpiricalPrior`; `SpikeAndSlab` when left out.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        *,
        dim: int = 32,
        code: int = 16,
        sparsity: float = 1.0,
        weight: float = 1e-4,
        inference: nn.Module | None = None,
        prior: EmpiricalPrior | None = None,
    ) -> None:
        super().__init__()
        self.inference = Shrinkage(code, dim) if inference is None else inference
        self.empirical: EmpiricalPrior = SpikeAndSlab(dim) if prior is None else prior
        self.config = {
            "_target_": "worldmodel.models.latent.SparseLatent",
            "channels": channels,
            "features": features,
            "dim": dim,
            "code": code,
            "sparsity": sparsity,
            "weight": weight,
            "inference": self.inference.config,
            "prior": self.empirical.config,
        }
        self.dim, self.code, self.sparsity, self.weight = dim, code, sparsity, weight
        self.body = map_encoder(channels + features, channels)
        self.head = nn.Linear(channels * 8, code)
        self.dictionary = nn.Parameter(torch.randn(code, dim))

    def prior(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B Z"]:
        """Returns a draw from what was inferred while training."""
        return self.empirical(hidden, generator)

    def posterior(
        self,
        hidden: Float[Tensor, "B C H W"],
        target: Float[Tensor, "B F H W"],
        generator: Generator | None = None,
    ) -> LatentSample:
        """Returns the sparse code, and its energy."""
        code = F.layer_norm(self.head(self.body(torch.cat([hidden, target], dim=1))), (self.code,))
        dictionary = unit_columns(self.dictionary)
        z = self.inference(code, dictionary, self.sparsity)
        if self.training:
            self.empirical.observe(z.detach())
        return LatentSample(z, self.weight * lasso_energy(code, dictionary, z, weight=self.sparsity))


class L0Latent(nn.Module):
    """Bounded values behind gates that are exactly open or shut (Louizos et al. 2018).

    `z = gate * tanh(value)`, with hard-concrete gates; the penalty is the expected number of open ones.

    Args:
        channels: of the hidden state.
        features: of the encoded target.
        dim: of z.
        weight: of an open gate.
        prior: an `EmpiricalPrior`; `SpikeAndSlab` when left out.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        *,
        dim: int = 32,
        weight: float = 1e-4,
        prior: EmpiricalPrior | None = None,
    ) -> None:
        super().__init__()
        self.empirical: EmpiricalPrior = SpikeAndSlab(dim) if prior is None else prior
        self.config = {
            "_target_": "worldmodel.models.latent.L0Latent",
            "channels": channels,
            "features": features,
            "dim": dim,
            "weight": weight,
            "prior": self.empirical.config,
        }
        self.dim, self.weight = dim, weight
        self.body = map_encoder(channels + features, channels)
        self.head = nn.Linear(channels * 8, 2 * dim)

    def prior(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B Z"]:
        """Returns a draw from what was inferred while training."""
        return self.empirical(hidden, generator)

    def posterior(
        self,
        hidden: Float[Tensor, "B C H W"],
        target: Float[Tensor, "B F H W"],
        generator: Generator | None = None,
    ) -> LatentSample:
        """Returns the gated values, gates drawn, and what the open gates cost."""
        value, logits = self.head(self.body(torch.cat([hidden, target], dim=1))).chunk(2, dim=-1)
        uniform = torch.rand(logits.shape, generator=generator, device=logits.device, dtype=logits.dtype)
        z = value.tanh() * hard_concrete(logits, uniform)
        if self.training:
            self.empirical.observe(z.detach())
        return LatentSample(z, self.weight * open_probability(logits).sum(-1))


class WinnerTakeAllLatent(nn.Module):
    """Units compete, `winners` of them are one and all others zero; straight-through gradients.

    The winners are drawn without replacement from `softmax(logits)` (Gumbel top-k), so z carries at most
    `log binomial(dim, winners)` nats. The penalty is the KL of that softmax from the uniform one. In draws
    from the prior each unit wins as often as it has won.

    Args:
        channels: of the hidden state.
        features: of the encoded target.
        dim: of z: units.
        winners: number of them that are one.
        beta: weight of the KL.
        decay: of the running frequencies, per batch.
    """

    usage: Tensor

    def __init__(
        self,
        channels: int,
        features: int,
        *,
        dim: int = 32,
        winners: int = 4,
        beta: float = 1e-6,
        decay: float = 0.99,
    ) -> None:
        super().__init__()
        if not 0 < winners < dim:
            raise ValueError(f"got {winners} winners among {dim} units; expected at least 1, fewer than all")
        self.config = {
            "_target_": "worldmodel.models.latent.WinnerTakeAllLatent",
            "channels": channels,
            "features": features,
            "dim": dim,
            "winners": winners,
            "beta": beta,
            "decay": decay,
        }
        self.dim, self.winners, self.beta, self.decay = dim, winners, beta, decay
        self.body = map_encoder(channels + features, channels)
        self.head = nn.Linear(channels * 8, dim)
        self.register_buffer("usage", torch.full((dim,), winners / dim))

    def prior(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B Z"]:
        """Returns winners; each unit is one as often as it has won."""
        return systematic_winners(self.usage, self.winners, hidden.shape[0], generator).to(hidden.dtype)

    def posterior(
        self,
        hidden: Float[Tensor, "B C H W"],
        target: Float[Tensor, "B F H W"],
        generator: Generator | None = None,
    ) -> LatentSample:
        """Returns the winners with the gradient of their chances, and the penalty."""
        logits = self.head(self.body(torch.cat([hidden, target], dim=1)))
        chance = self.winners * logits.softmax(-1)
        won = winners_of(perturb(logits, generator), self.winners)
        if self.training:
            self.usage.lerp_(gather(won.to(self.usage.dtype)).mean(0), 1 - self.decay)
        kl = categorical_kl(logits, torch.zeros_like(logits))
        return LatentSample(won + chance - chance.detach(), self.beta * kl)


def winners_of(score: Float[Tensor, "B Z"], winners: int) -> Float[Tensor, "B Z"]:
    """Returns one for the `winners` greatest scores of each row, zero for the others."""
    return torch.zeros_like(score).scatter_(-1, score.topk(winners, dim=-1).indices, 1.0)


def systematic_winners(
    rate: Float[Tensor, " Z"], winners: int, num: int, generator: Generator | None = None
) -> Float[Tensor, "{num} Z"]:
    """Returns one for `winners` units of each row, zero for the others; a unit wins as often as `rate` says.

    Systematic sampling (Madow 1949): the rates, which add up to `winners`, are laid end to end in a random
    order, and a comb with teeth one apart is put down at random.
    """
    device, dtype = rate.device, rate.dtype
    order = torch.rand(num, len(rate), generator=generator, device=device).argsort(-1)
    ends = rate[order].cumsum(-1)
    ends = ends * (winners / ends[:, -1:])
    start = torch.rand(num, 1, generator=generator, device=device, dtype=dtype)
    teeth = start + torch.arange(winners, device=device, dtype=dtype)
    place = torch.searchsorted(ends, teeth, right=True).clamp_max(len(rate) - 1)
    return torch.zeros_like(ends).scatter_(-1, order.gather(-1, place), 1.0)


TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1
"""Of the hard-concrete distribution, as in its paper (section 4)."""


def hard_concrete(logits: Float[Tensor, "*B"], uniform: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Returns gates in [0, 1], both ends included (Louizos et al. 2018, equations 10 and 11)."""
    noise = torch.logit(uniform.clamp(1e-6, 1 - 1e-6))
    soft = ((noise + logits) / TEMPERATURE).sigmoid()
    return (LOW + (HIGH - LOW) * soft).clamp(0.0, 1.0)


def open_probability(logits: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Returns the probability that a hard-concrete gate is not zero (the same, equation 12)."""
    log_ratio = torch.tensor(-LOW / HIGH, dtype=logits.dtype, device=logits.device).log()
    return (logits - TEMPERATURE * log_ratio).sigmoid()
