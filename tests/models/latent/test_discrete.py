"""Discrete latents: straight-through gradients, entropy limits, codebooks and their prior."""

import math

import pytest
import torch

from worldmodel.models.latent import (
    CategoricalLatent,
    EmaCodebook,
    GradientCodebook,
    UniformCategorical,
    VectorQuantisedLatent,
    categorical_kl,
)

HIDDEN, TARGET = torch.zeros(512, 8, 8, 8), torch.zeros(512, 16, 8, 8)


def set_output(head: torch.nn.Linear, bias: torch.Tensor) -> None:
    torch.nn.init.zeros_(head.weight)
    with torch.no_grad():
        head.bias.copy_(bias)


def test_kl_is_that_of_torch_distributions() -> None:
    logits, other = torch.randn(2, 5, 3, 4)
    pair = [torch.distributions.Categorical(logits=one) for one in (logits, other)]
    torch.testing.assert_close(categorical_kl(logits, other), torch.distributions.kl_divergence(*pair))


def test_draws_follow_the_posterior_and_carry_its_gradient() -> None:
    latent = CategoricalLatent(8, 16, groups=1, classes=3)
    probability = torch.tensor([0.7, 0.2, 0.1])
    set_output(latent.head, probability.log())
    z = latent.posterior(HIDDEN, TARGET, torch.Generator().manual_seed(0)).z
    assert bool(torch.isclose(z.sort(dim=-1).values, torch.tensor([0.0, 0.0, 1.0]), atol=1e-6).all())
    torch.testing.assert_close(z.mean(0), probability, atol=0.06, rtol=0)
    (gradient,) = torch.autograd.grad(z[:, 0].mean(), latent.head.bias)  # d softmax_0 / d logits
    torch.testing.assert_close(gradient, torch.tensor([0.7 * 0.3, -0.7 * 0.2, -0.7 * 0.1]))


def test_nothing_pulls_at_a_posterior_within_its_entropy_limit() -> None:
    latent = CategoricalLatent(8, 16, groups=1, classes=2, beta=1.0, free_bits=0.3)
    for logit, is_free in ((1.0, True), (3.0, False)):  # KL to uniform 0.11 and 0.50
        set_output(latent.head, torch.tensor([logit, 0.0]))
        penalty = latent.posterior(HIDDEN, TARGET).penalty.mean()
        gradient = torch.autograd.grad(penalty, latent.head.bias, allow_unused=True)[0]
        assert (gradient is None or float(gradient.abs().max()) == 0.0) == is_free


def test_capacities_are_logarithms_of_the_number_of_values() -> None:
    assert CategoricalLatent(8, 16, groups=3, classes=4).capacity == pytest.approx(math.log(4**3))
    codebook = EmaCodebook(32, 4)
    assert VectorQuantisedLatent(8, 16, codebook=codebook).capacity == pytest.approx(math.log(32))


def test_a_prior_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="the prior has 2 x 3 classes, the latent 3 x 2"):
        CategoricalLatent(8, 16, groups=3, classes=2, prior=UniformCategorical(2, 3))


def test_quantised_latents_are_codes_and_the_gradient_is_that_of_the_encoding() -> None:
    codebook = GradientCodebook(3, 2)
    with torch.no_grad():
        codebook.codes.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]]))
    latent = VectorQuantisedLatent(8, 16, codebook=codebook, weight=1.0, commitment=0.25)
    set_output(latent.head, torch.tensor([0.9, 0.6]))
    sample = latent.posterior(HIDDEN[:1], TARGET[:1])
    torch.testing.assert_close(sample.z, torch.tensor([[1.0, 1.0]]))
    distance = 0.1**2 + 0.4**2
    assert float(sample.penalty.detach()) == pytest.approx((0.25 + 1) * distance, rel=1e-4)
    bias, codes = torch.autograd.grad(
        sample.penalty.sum(), (latent.head.bias, codebook.codes), retain_graph=True
    )
    torch.testing.assert_close(bias, 0.25 * 2 * torch.tensor([-0.1, -0.4]))  # the commitment alone
    torch.testing.assert_close(codes[1], 2 * torch.tensor([0.1, 0.4]))  # the codebook loss alone
    (bias,) = torch.autograd.grad(sample.z.sum(), latent.head.bias)
    assert bias.tolist() == [1.0, 1.0]


def test_running_codes_settle_at_the_means_of_their_encodings() -> None:
    codebook = EmaCodebook(2, 1, decay=0.5)
    encoded, index = torch.tensor([[1.0], [3.0], [10.0]]), torch.tensor([0, 0, 1])
    for _ in range(40):
        codebook.observe(encoded, index)
    torch.testing.assert_close(codebook.codes, torch.tensor([[2.0], [10.0]]))


def test_a_code_that_nobody_uses_moves_to_an_encoding() -> None:
    codebook = EmaCodebook(2, 1, decay=0.5)
    codebook.codes.copy_(torch.tensor([[0.0], [100.0]]))
    for _ in range(10):
        codebook.observe(torch.tensor([[1.0], [1.0]]), torch.tensor([0, 0]))
    assert float(codebook.codes[1]) == 1.0


def test_the_prior_draws_codes_as_often_as_they_are_used() -> None:
    latent = VectorQuantisedLatent(8, 16, codebook=GradientCodebook(3, 1))
    with torch.no_grad():
        latent.codebook.codes.copy_(torch.tensor([[0.0], [1.0], [2.0]]))
    latent.usage.copy_(torch.tensor([0.5, 0.0, 0.5]))
    drawn = latent.prior(HIDDEN, torch.Generator().manual_seed(0)).squeeze(-1)
    assert int((drawn == 1).sum()) == 0 and 200 < int((drawn == 2).sum()) < 312  # 256, 5 std. deviations
