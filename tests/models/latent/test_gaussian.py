"""The empty and the Gaussian latent: closed forms, z-dropout per sample, the learnt prior, free bits."""

import pytest
import torch

from worldmodel.models import GaussianLatent, NoLatent, gaussian_kl
from worldmodel.models.checkpoint import build
from worldmodel.models.latent import (
    ConditionalGaussian,
    LatentDropout,
    StandardGaussian,
    free_bits_kl,
    normal_kl,
)


def test_kl_is_that_of_torch_distributions() -> None:
    mean, log_var = torch.randn(5, 3), torch.randn(5, 3)
    normal = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    prior = torch.distributions.Normal(torch.zeros(3), torch.ones(3))
    expected = torch.distributions.kl_divergence(normal, prior).sum(-1)
    torch.testing.assert_close(gaussian_kl(mean, log_var), expected)


def test_kl_of_the_prior_is_zero() -> None:
    assert gaussian_kl(torch.zeros(2, 4), torch.zeros(2, 4)).tolist() == [0.0, 0.0]


def test_empty_latent_has_no_dimension_and_no_cost() -> None:
    hidden = torch.randn(3, 8, 4, 4)
    sample = NoLatent().posterior(hidden, torch.randn(3, 16, 4, 4))
    assert sample.z.shape == (3, 0)
    assert sample.penalty.tolist() == [0.0, 0.0, 0.0]


def test_dropped_samples_are_prior_draws_and_pay_nothing() -> None:
    latent = GaussianLatent(8, 16, dim=4, z_dropout=1.0, beta=1.0)
    hidden, target = torch.randn(3, 8, 8, 8), torch.randn(3, 16, 8, 8)
    sample = latent.posterior(hidden, target, torch.Generator().manual_seed(3))
    prior = latent.prior(hidden, torch.Generator().manual_seed(3))
    torch.testing.assert_close(sample.z, prior)
    assert sample.penalty.tolist() == [0.0, 0.0, 0.0]


def test_z_dropout_falls_per_sample() -> None:
    latent = GaussianLatent(8, 16, dim=4, z_dropout=0.5, beta=1.0)
    torch.nn.init.constant_(latent.head.bias, 1.0)
    hidden, target = torch.zeros(256, 8, 8, 8), torch.zeros(256, 16, 8, 8)
    paying = latent.posterior(hidden, target, torch.Generator().manual_seed(0)).penalty > 0
    assert 90 < int(paying.sum()) < 166  # 128 expected, 5 standard deviations


@torch.no_grad()
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_nothing_is_dropped_outside_training(is_wrapped: bool) -> None:
    """In training each draw is of the prior `N(0, 1)`, else of the posterior `N(10, e^-4)`."""
    inner = GaussianLatent(8, 16, dim=1, z_dropout=0.0 if is_wrapped else 1.0, beta=1.0)
    inner.head.weight.zero_()
    inner.head.bias.copy_(torch.tensor([10.0, -8.0]))
    latent = LatentDropout(inner, rate=1.0) if is_wrapped else inner
    maps = torch.zeros(64, 8, 8, 8), torch.zeros(64, 16, 8, 8)
    for is_training in (True, False):
        sample = latent.train(is_training).posterior(*maps, torch.Generator().manual_seed(0))
        assert bool((sample.z < 5).all() if is_training else (sample.z > 9.9).all())
        assert bool((sample.penalty == 0).all() if is_training else (sample.penalty > 50).all())


def test_kept_samples_follow_the_posterior() -> None:
    latent = GaussianLatent(8, 16, dim=2, z_dropout=0.0)
    with torch.no_grad():
        latent.head.weight.zero_()
        latent.head.bias.copy_(torch.tensor([3.0, -1.0, -8.0, -8.0]))  # mean 3, -1; sigma e^-4
    sample = latent.posterior(torch.zeros(64, 8, 8, 8), torch.zeros(64, 16, 8, 8))
    torch.testing.assert_close(sample.z.mean(0), torch.tensor([3.0, -1.0]), atol=0.02, rtol=0)


def test_kl_between_normals_is_that_of_torch_distributions() -> None:
    mean, other, log_var, other_log_var = torch.randn(4, 5, 3)
    normal = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    prior = torch.distributions.Normal(other, (0.5 * other_log_var).exp())
    expected = torch.distributions.kl_divergence(normal, prior)
    torch.testing.assert_close(normal_kl(mean - other, log_var, other_log_var), expected)


def test_free_bits_are_the_published_sum_in_the_mean() -> None:
    kl = torch.tensor([[0.1, 3.0, 0.9], [0.3, 1.0, 1.3]])  # means 0.2, 2.0, 1.1
    paid = free_bits_kl(kl, 1.0)
    assert paid.tolist() == pytest.approx([1.0 + 3.0 + 0.9, 1.0 + 1.0 + 1.3])
    assert float(paid.mean()) == pytest.approx(1.0 + 2.0 + 1.1)
    torch.testing.assert_close(free_bits_kl(kl, 0.0), kl.sum(-1))


def test_a_learnt_prior_starts_as_the_standard_one() -> None:
    hidden = torch.randn(3, 8, 8, 8)
    for one, other in zip(ConditionalGaussian(8, 4)(hidden), StandardGaussian(4)(hidden), strict=True):
        assert torch.equal(one, other)


@torch.no_grad()
def test_draws_and_penalty_follow_the_learnt_prior() -> None:
    latent = GaussianLatent(8, 16, dim=2, z_dropout=0.0, beta=1.0, prior=ConditionalGaussian(8, 2))
    for head in (latent.head, latent.belief.head):
        head.weight.zero_()
        head.bias.copy_(torch.tensor([3.0, -1.0, -4.0, -4.0]))
    hidden, target = torch.zeros(256, 8, 8, 8), torch.zeros(256, 16, 8, 8)
    assert float(latent.posterior(hidden, target).penalty.abs().max()) < 1e-6  # prior and posterior agree
    drawn = latent.prior(hidden, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), torch.tensor([3.0, -1.0]), atol=0.05, rtol=0)
    with pytest.raises(ValueError, match="the prior has 3 dimensions, the latent 2"):
        GaussianLatent(8, 16, dim=2, prior=StandardGaussian(3))


def test_checkpoints_from_before_the_learnt_prior_are_read() -> None:
    old = {"_target_": "worldmodel.models.GaussianLatent", "channels": 8, "features": 16, "dim": 4}
    latent = build(old | {"z_dropout": 0.5, "beta": 1e-6})
    parts = {f"{part}.{kind}" for part in ("body.0", "body.2", "head") for kind in ("weight", "bias")}
    assert set(latent.state_dict()) == parts
