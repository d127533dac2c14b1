"""The two promises of every latent: z carries information, and it is limited.

The toy future shows three signs that the past does not; a linear decoder has to tell them from z.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Generator, Tensor, nn

from worldmodel.models import GaussianLatent
from worldmodel.models.latent import (
    CategoricalLatent,
    ConditionalGaussian,
    EffectiveDimension,
    EmaCodebook,
    GradientCodebook,
    InnerInference,
    L0Latent,
    LatentDropout,
    LatentSample,
    LateralInhibition,
    LogDet,
    RegularisedLatent,
    SparseLatent,
    TruncatedLatent,
    VectorQuantisedLatent,
    WinnerTakeAllLatent,
    participation_ratio,
)

CHANNELS, FEATURES, SIGNS = 4, 3, 3


def half_square(z: Tensor) -> Tensor:
    return 0.5 * z.square().sum(-1)


@dataclass(frozen=True)
class Case:
    """A latent that is hardly limited, the same much limited, and how much a batch of draws carries.

    `bound` is what the activity of the tight one cannot exceed, whatever its training.
    """

    loose: Callable[[], nn.Module]
    tight: Callable[[], nn.Module]
    activity: Callable[[nn.Module, LatentSample], float]
    bound: float = math.inf


def gaussian(beta: float, **options: object) -> GaussianLatent:
    return GaussianLatent(CHANNELS, FEATURES, dim=8, beta=beta, **{"z_dropout": 0.0} | options)  # type: ignore[arg-type]


def categorical(beta: float, groups: int = 4, classes: int = 4) -> CategoricalLatent:
    return CategoricalLatent(CHANNELS, FEATURES, groups=groups, classes=classes, beta=beta)


def quantised(codebook: nn.Module) -> VectorQuantisedLatent:
    return VectorQuantisedLatent(CHANNELS, FEATURES, codebook=codebook, weight=0.1, decay=0.9)  # type: ignore[arg-type]


def sparse(sparsity: float, **options: nn.Module) -> SparseLatent:
    size = {"dim": 12, "code": 8, "weight": 0.01}
    return SparseLatent(CHANNELS, FEATURES, sparsity=sparsity, **size, **options)  # type: ignore[arg-type]


def winners(num: int, dim: int) -> WinnerTakeAllLatent:
    return WinnerTakeAllLatent(CHANNELS, FEATURES, dim=dim, winners=num, beta=1e-3)


def regularised(regulariser: Callable[[Tensor], Tensor], weight: float) -> RegularisedLatent:
    return RegularisedLatent(CHANNELS, FEATURES, dim=8, regulariser=regulariser, weight=weight)


def rate(latent: nn.Module, sample: LatentSample) -> float:
    """KL [nat]."""
    return float(sample.penalty.mean()) / float(latent.beta)  # type: ignore[arg-type]


def num_active(latent: nn.Module, sample: LatentSample) -> float:
    """Entries that are not zero."""
    return float((sample.z.abs() > 1e-4).sum(-1).float().mean())


def num_distinct(latent: nn.Module, sample: LatentSample) -> float:
    """Different values of z in the batch."""
    return float(len(sample.z.mul(1e3).round().unique(dim=0)))


def cost(latent: nn.Module, sample: LatentSample) -> float:
    """`R(e)`."""
    return float(sample.penalty.mean()) / float(latent.weight)  # type: ignore[arg-type]


CASES = {
    "gaussian": Case(lambda: gaussian(1e-3), lambda: gaussian(0.1), rate),
    "conditional": Case(
        lambda: gaussian(1e-3, prior=ConditionalGaussian(CHANNELS, 8)),
        lambda: gaussian(0.1, prior=ConditionalGaussian(CHANNELS, 8)),
        rate,
    ),
    "categorical": Case(lambda: categorical(1e-3), lambda: categorical(0.2), rate, 4 * math.log(4)),
    "categorical_small": Case(lambda: categorical(1e-3), lambda: categorical(1e-3, 1, 2), rate, math.log(2)),
    "quantised_ema": Case(
        lambda: quantised(EmaCodebook(32, 8, decay=0.9)),
        lambda: quantised(EmaCodebook(2, 8, decay=0.9)),
        num_distinct,
        2,
    ),
    "quantised_gradient": Case(
        lambda: quantised(GradientCodebook(32, 8)), lambda: quantised(GradientCodebook(2, 8)), num_distinct, 2
    ),
    "sparse": Case(lambda: sparse(0.3), lambda: sparse(1.5), num_active),
    "sparse_coding": Case(
        lambda: sparse(0.3, inference=InnerInference(10)),
        lambda: sparse(1.8, inference=InnerInference(10)),
        num_active,
    ),
    "l0": Case(
        lambda: L0Latent(CHANNELS, FEATURES, dim=12, weight=1e-3),
        lambda: L0Latent(CHANNELS, FEATURES, dim=12, weight=0.1),
        num_active,
    ),
    "winners": Case(lambda: winners(4, 12), lambda: winners(1, 2), num_active, 1),
    "inhibition": Case(
        lambda: regularised(LateralInhibition(8), 1e-3), lambda: regularised(LateralInhibition(8), 0.3), cost
    ),
    "log_det": Case(lambda: regularised(LogDet(), 1e-3), lambda: regularised(LogDet(), 0.3), cost),
    "effective_dimension": Case(
        lambda: regularised(EffectiveDimension(), 1e-3),
        lambda: regularised(EffectiveDimension(), 0.5),
        lambda latent, sample: float(participation_ratio(sample.z)),
    ),
    "any_function": Case(lambda: regularised(half_square, 1e-3), lambda: regularised(half_square, 0.2), cost),
    "truncated": Case(
        lambda: TruncatedLatent(gaussian(1e-3), kept=6.0),
        lambda: TruncatedLatent(gaussian(1e-3), kept=1.2),
        num_active,
    ),
    "dropped": Case(
        lambda: LatentDropout(gaussian(1e-3), rate=0.1),
        lambda: LatentDropout(gaussian(1e-3), rate=0.8),
        lambda latent, sample: float((sample.penalty > 0).float().mean()),
    ),
}


def batch(generator: Generator, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns hidden maps (noise), encoded targets (the signs and noise) and the signs."""
    signs = 2.0 * torch.randint(0, 2, (rows, SIGNS), generator=generator) - 1
    hidden = torch.randn(rows, CHANNELS, 6, 4, generator=generator)
    noise = torch.randn(rows, FEATURES, 6, 4, generator=generator)
    return hidden, signs[:, :, None, None] + 0.1 * noise, signs


@dataclass(frozen=True)
class Outcome:
    """Errors of the trained decoder with z from posterior and prior (guessing costs 1), and the activity."""

    posterior: float
    prior: float
    activity: float


def train(latent: nn.Module, activity: Callable[[nn.Module, LatentSample], float]) -> Outcome:
    """Trains latent and linear decoder for sixty steps."""
    generator = torch.Generator().manual_seed(0)
    decoder = nn.Linear(latent.dim, SIGNS)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam([*latent.parameters(), *decoder.parameters()], lr=0.03, fused=True)
    for _ in range(60):
        hidden, target, signs = batch(generator, 32)
        sample = latent.posterior(hidden, target, generator)  # type: ignore[operator]
        loss = (decoder(sample.z) - signs).square().mean() + sample.penalty.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    latent.train(isinstance(latent, LatentDropout))  # which limits in training only
    hidden, target, signs = batch(generator, 256)
    with torch.no_grad():
        sample = latent.posterior(hidden, target, generator)  # type: ignore[operator]
        blind = latent.prior(hidden, generator)  # type: ignore[operator]
        errors = [float((decoder(z) - signs).square().mean()) for z in (sample.z, blind)]
    return Outcome(*errors, activity(latent, sample))


@cache
def trained(name: str, level: str) -> Outcome:
    """Trains the loose or the tight latent of a case."""
    torch.manual_seed(1)
    return train(getattr(CASES[name], level)(), CASES[name].activity)


@pytest.mark.parametrize("name", CASES)
def test_z_carries_information(name: str) -> None:
    found = trained(name, "loose")
    assert found.posterior < 0.7 < 0.95 < found.prior


@pytest.mark.parametrize("name", CASES)
def test_z_is_limited(name: str) -> None:
    loose, tight = trained(name, "loose"), trained(name, "tight")
    assert tight.activity <= 0.7 * loose.activity
    assert tight.activity <= CASES[name].bound + 1e-4
    assert tight.posterior > loose.posterior + 0.1


def test_free_bits_are_kept_where_the_weight_would_take_them() -> None:
    torch.manual_seed(1)
    free = train(gaussian(0.1, free_bits=1.0), rate)
    assert free.posterior < trained("gaussian", "tight").posterior - 0.1
    assert free.activity >= 8 * 1.0 - 1e-4  # every dimension pays at least for what is free
