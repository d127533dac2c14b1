"""Regularisers by hand, which functions a config can name, and latents around latents."""

import math

import pytest
import torch

from worldmodel.models import GaussianLatent
from worldmodel.models.checkpoint import build
from worldmodel.models.latent import (
    EffectiveDimension,
    ImportedFunction,
    LatentDropout,
    LateralInhibition,
    LogDet,
    RegularisedLatent,
    TruncatedLatent,
    participation_ratio,
)


def half_square(z: torch.Tensor) -> torch.Tensor:
    return 0.5 * z.square().sum(-1)


def crosses(*scales: float) -> torch.Tensor:
    """Points at plus and minus each scale on the axes: variance `scale^2 / len(scales)` along each."""
    points = torch.diag(torch.tensor(scales))
    return torch.cat([points, -points])


def test_participation_counts_the_directions_that_share_the_variance() -> None:
    assert float(participation_ratio(crosses(1.0, 1.0, 1.0))) == pytest.approx(3.0)
    assert float(participation_ratio(crosses(1.0, 0.0, 0.0))) == pytest.approx(1.0)
    assert float(participation_ratio(crosses(2.0, 1.0))) == pytest.approx((4 + 1) ** 2 / (16 + 1))
    assert EffectiveDimension()(7.0 * crosses(1.0, 1.0)).tolist() == pytest.approx([2.0] * 4)  # no scale


def test_log_det_is_the_capacity_of_a_gaussian_channel() -> None:
    z = crosses(2.0, 4.0)  # variances 2 and 8
    expected = 0.5 * math.log(1 + 2 / 0.25) + 0.5 * math.log(1 + 8 / 0.25)
    assert LogDet(noise=0.5)(z).tolist() == pytest.approx([expected] * 4)


def test_log_det_prefers_few_directions() -> None:
    assert float(LogDet()(crosses(2.0, 0.0))[0]) < float(LogDet()(crosses(2**0.5, 2**0.5))[0])


def test_units_of_different_groups_inhibit_each_other() -> None:
    z = torch.tensor([[2.0, 0.0, 0.0, 0.0], [2.0, -3.0, 0.0, 0.0], [2.0, 0.0, -3.0, 0.0]])
    assert LateralInhibition(4)(z).tolist() == [0.0, 6.0, 6.0]
    assert LateralInhibition(4, groups=2)(z).tolist() == [0.0, 0.0, 6.0]
    with pytest.raises(ValueError, match="do not divide into 3 groups"):
        LateralInhibition(4, groups=3)


@torch.no_grad()
def test_a_function_as_regulariser_survives_a_checkpoint() -> None:
    latent = RegularisedLatent(4, 4, regulariser=half_square, dim=3, weight=2.0)
    twin = build(latent.config)
    twin.load_state_dict(latent.state_dict())
    hidden, target = torch.randn(2, 5, 4, 8, 8)
    penalty = twin.posterior(hidden, target).penalty
    torch.testing.assert_close(penalty, latent.infer(hidden, target).square().sum(-1))  # 2 * 1/2 |e|^2


def test_a_function_that_no_checkpoint_could_name_is_refused() -> None:
    with pytest.raises(ValueError, match="define it at the top of a module"):
        RegularisedLatent(4, 4, regulariser=lambda z: z.square().sum(-1))


def test_a_config_names_functions_only() -> None:
    with pytest.raises(TypeError, match=r"os\.getcwd is a builtin_function"):
        ImportedFunction("os.getcwd")


@torch.no_grad()
def test_truncation_keeps_the_first_dimensions_with_the_mean_asked_for() -> None:
    latent = TruncatedLatent(GaussianLatent(1, 1, dim=64), kept=4.0)
    hidden = torch.zeros(4000, 1, 4, 4)
    for z in (latent.prior(hidden), latent.posterior(hidden, hidden).z):
        is_kept = z != 0
        assert bool((is_kept[:, 1:] <= is_kept[:, :-1]).all())  # a gap never opens
        assert float(is_kept.sum(-1).float().mean()) == pytest.approx(4.0, abs=0.3)
    only = TruncatedLatent(GaussianLatent(1, 1, dim=8), kept=1.0)
    assert bool(((only.prior(hidden) != 0).sum(-1) == 1).all())


@torch.no_grad()
def test_dropped_samples_are_prior_draws_and_pay_nothing() -> None:
    inner = GaussianLatent(1, 1, dim=2, z_dropout=0.0, beta=1.0)
    torch.nn.init.constant_(inner.head.bias, 3.0)
    hidden = torch.zeros(512, 1, 4, 4)
    sample = LatentDropout(inner, rate=0.25).posterior(hidden, hidden, torch.Generator().manual_seed(0))
    is_free = sample.penalty == 0
    assert 79 < int(is_free.sum()) < 177  # 128 expected, 5 standard deviations
    assert float(sample.z[is_free].mean()) == pytest.approx(0.0, abs=0.4)
    assert float(sample.z[~is_free].mean()) == pytest.approx(3.0, abs=0.8)
