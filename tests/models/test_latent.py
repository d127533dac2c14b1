"""Latents: closed forms, z-dropout per sample, the empty latent."""

import torch

from worldmodel.models import GaussianLatent, NoLatent, gaussian_kl


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


def test_kept_samples_follow_the_posterior() -> None:
    latent = GaussianLatent(8, 16, dim=2, z_dropout=0.0)
    with torch.no_grad():
        latent.head.weight.zero_()
        latent.head.bias.copy_(torch.tensor([3.0, -1.0, -8.0, -8.0]))  # mean 3, -1; sigma e^-4
    sample = latent.posterior(torch.zeros(64, 8, 8, 8), torch.zeros(64, 16, 8, 8))
    torch.testing.assert_close(sample.z.mean(0), torch.tensor([3.0, -1.0]), atol=0.02, rtol=0)
