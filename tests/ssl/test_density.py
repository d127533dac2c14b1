"""Energies learnt in every way that the literature has, on problems whose densities are known."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

from tests.ssl.toys import (
    Ising,
    Normal,
    Quadratic,
    divergence,
    double_well,
    ising_data,
    log_probability,
    mlp,
    some_ising,
)
from worldmodel.nn import Configured
from worldmodel.nn.sampler import hmc, langevin, leapfrog, mala, metropolis, slope
from worldmodel.ssl import (
    Contrast,
    Enumeration,
    FromData,
    Gibbs,
    Hamiltonian,
    Langevin,
    Metropolis,
    MinimumFlow,
    NoiseContrastive,
    Persistent,
    PushUp,
    RatioMatching,
    ScoreMatching,
)
from worldmodel.ssl.push_up import bit_strings, negative_log_likelihood, noise_contrast, score_matching

Said = Callable[[str], None]


def least(loss_fn: Callable[[], Tensor], model: nn.Module, *, num_steps: int = 60) -> None:
    """Minimises a smooth deterministic loss."""
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=num_steps, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_fn()
        loss.backward()
        return loss

    optimizer.step(closure)


def follow(push_up: PushUp, energy: nn.Module, data: Tensor, *, num_steps: int, lr: float) -> None:
    """Minimises a noisy loss: steps of Adam that become smaller."""
    parameters = [*energy.parameters(), *push_up.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    for _ in range(num_steps):
        optimizer.zero_grad()
        push_up(energy, data)["loss"].backward()
        optimizer.step()
        schedule.step()


def learnt(push_up: PushUp, data: Tensor) -> Ising:
    """An Ising model, fitted by a loss without randomness."""
    model = Ising()
    push_up.attach(data)
    least(lambda: push_up(model, data)["loss"], model)
    return model


@pytest.mark.proof("E1")
def test_exact_likelihood_finds_the_ising_model(result: Said) -> None:
    truth = some_ising()
    data = ising_data(truth)
    before, after = divergence(truth, Ising()), divergence(truth, learnt(Enumeration(num_sites=5), data))
    assert before > 0.3 and after < 1e-5
    result(f"KL from a 5-bit Ising model {before:.2f} -> {after:.1g}")


@pytest.mark.proof("E1")
def test_its_gradient_is_that_of_data_less_that_of_the_model() -> None:
    truth, model = some_ising(), some_ising(seed=1)
    data, support = ising_data(truth, 500), bit_strings(5).double()
    exact = torch.autograd.grad(negative_log_likelihood(model, data, support), list(model.parameters()))
    chance = log_probability(model).exp().detach()
    by_hand = model(data).mean() - (chance * model(support)).sum()
    for one, other in zip(exact, torch.autograd.grad(by_hand, list(model.parameters())), strict=True):
        torch.testing.assert_close(one, other)
    block = torch.autograd.grad(Enumeration(num_sites=5)(model, data)["loss"], list(model.parameters()))
    for one, other in zip(exact, block, strict=True):
        torch.testing.assert_close(one, other)


def test_the_likelihood_of_some_bits_given_the_others_finds_the_model_too() -> None:
    torch.manual_seed(0)
    truth, model = some_ising(), Ising()
    follow(Enumeration(num_sites=2), model, ising_data(truth, 2000), num_steps=150, lr=0.05)
    assert divergence(truth, model) < 2e-3


@pytest.mark.proof("E5")
def test_ratio_matching_finds_the_ising_model(result: Said) -> None:
    truth = some_ising()
    found = divergence(truth, learnt(RatioMatching(num_sites=5), ising_data(truth)))
    assert found < 1e-4
    result(f"KL from a 5-bit Ising model {divergence(truth, Ising()):.2f} -> {found:.1g}")


@pytest.mark.proof("E7")
def test_minimum_probability_flow_finds_the_ising_model(result: Said) -> None:
    truth = some_ising()
    found = divergence(truth, learnt(MinimumFlow(num_sites=5), ising_data(truth)))
    assert found < 1e-4
    result(f"KL from a 5-bit Ising model {divergence(truth, Ising()):.2f} -> {found:.1g}")


@pytest.mark.slow
@pytest.mark.proof("E4")
def test_contrastive_divergence_finds_the_ising_model(result: Said) -> None:
    truth = some_ising()
    data = ising_data(truth, 2000)
    found = {}
    for name, start in {"CD": FromData(), "persistent": Persistent(1000)}.items():
        torch.manual_seed(0)
        model, push_up = Ising(), Contrast(Gibbs(5), start=start)
        push_up.attach(data)
        follow(push_up, model, data, num_steps=250, lr=0.05)
        found[name] = divergence(truth, model)
    assert max(found.values()) < 5e-3
    said = ", ".join(f"{value:.1g} ({name})" for name, value in found.items())
    result(f"KL from a 5-bit Ising model {divergence(truth, Ising()):.2f} -> {said}")


@pytest.mark.parametrize("estimator", [RatioMatching, MinimumFlow])
def test_some_flips_estimate_what_all_flips_say(estimator: Callable[..., PushUp]) -> None:
    torch.manual_seed(0)
    model, data = some_ising(), ising_data(some_ising(seed=1), 300)
    few = torch.stack([estimator(num_sites=2)(model, data)["loss"] for _ in range(60)])
    exact = estimator(num_sites=5)(model, data)["loss"]
    assert (few.mean() - exact).abs() < 4 * few.std() / math.sqrt(60)


@pytest.mark.proof("E2")
def test_metropolis_and_langevin_draw_from_a_double_well(result: Said) -> None:
    line = torch.linspace(-4, 4, 4001)[:, None]
    weight = (-double_well(line)).exp()
    variance = ((weight * line[:, 0].square()).sum() / weight.sum()).item()
    generator = Generator().manual_seed(0)
    start = 2 * torch.rand(4000, 1, generator=generator) - 1
    found = {
        "Metropolis": metropolis(double_well, start, step_std=0.8, num_steps=150, generator=generator).point,
        "Langevin": langevin(double_well, start, step=0.15, num_steps=400, generator=generator),
        "MALA": mala(double_well, start, step=0.5, num_steps=100, generator=generator).point,
    }
    for points in found.values():
        assert points.mean().item() == pytest.approx(0.0, abs=4 * variance**0.5 / math.sqrt(4000))
        assert points.var().item() == pytest.approx(variance, rel=0.06)
    said = ", ".join(f"{points.var().item():.2f} ({name})" for name, points in found.items())
    result(f"variance of a double well {variance:.2f}: {said}")


@pytest.mark.parametrize("sampler", [Langevin(10, step=0.3), Metropolis(10, step_std=0.4)])
def test_a_normal_energy_is_learnt_from_its_own_chains(sampler: Configured) -> None:
    torch.manual_seed(0)
    data = 0.5 + 0.7 * torch.randn(2000, 1)
    energy, push_up = Normal(), Contrast(sampler, start=Persistent(1000))
    push_up.attach(data)
    follow(push_up, energy, data, num_steps=150, lr=0.05)
    assert energy.mean.item() == pytest.approx(data.mean().item(), abs=0.08)
    assert energy.std.item() == pytest.approx(data.std().item(), rel=0.1)


@pytest.mark.proof("E3")
def test_hamiltonian_chains_draw_from_a_correlated_normal(result: Said) -> None:
    precision = torch.tensor([[1.0, 0.8], [0.8, 1.0]]).inverse()

    def energy(point: Tensor) -> Tensor:
        return 0.5 * ((point @ precision.to(point)) * point).sum(-1)

    start = torch.zeros(4000, 2)
    chain = hmc(energy, start, step=0.15, num_leaps=10, num_steps=30, generator=Generator().manual_seed(0))
    covariance = chain.point.T.cov()
    torch.testing.assert_close(covariance, torch.tensor([[1.0, 0.8], [0.8, 1.0]]), atol=0.08, rtol=0.0)
    accepted = chain.accepted.mean().item()
    assert accepted > 0.95
    entries = ", ".join(f"{covariance[at].item():.2f}" for at in ((0, 0), (0, 1), (1, 1)))
    result(f"accepted {accepted:.2f}; covariance {entries} of 1, 0.8, 1")


@pytest.mark.proof("E3")
def test_the_error_of_a_trajectory_falls_with_the_square_of_its_step(result: Said) -> None:
    generator = Generator().manual_seed(0)
    position, momentum = torch.randn(2, 200, 2, generator=generator, dtype=torch.float64)

    def error(step: float) -> float:
        there, late = leapfrog(double_well, position, momentum, step=step, num_leaps=round(0.8 / step))
        before = double_well(position) + 0.5 * momentum.square().sum(-1)
        after = double_well(there) + 0.5 * late.square().sum(-1)
        return (after - before).abs().mean().item()

    order = math.log2(error(0.02) / error(0.01))
    assert order == pytest.approx(2.0, abs=0.1)
    result(f"order of its error {order:.2f}")


@pytest.mark.proof("E3")
def test_a_normal_energy_is_learnt_from_hamiltonian_chains() -> None:
    torch.manual_seed(0)
    data = 0.5 + 0.7 * torch.randn(2000, 1)
    energy, push_up = Normal(), Contrast(Hamiltonian(2, step=0.3, num_leaps=4), start=Persistent(1000))
    push_up.attach(data)
    follow(push_up, energy, data, num_steps=150, lr=0.05)
    assert energy.mean.item() == pytest.approx(data.mean().item(), abs=0.08)
    assert energy.std.item() == pytest.approx(data.std().item(), rel=0.1)


@pytest.mark.proof("E6")
def test_noise_contrastive_estimation_finds_a_density_and_its_normaliser(result: Said) -> None:
    torch.manual_seed(0)
    data = 0.5 + 0.7 * torch.randn(5000, 1)
    energy, push_up = Normal(), NoiseContrastive(ratio=2)
    push_up.attach(data)
    push_up.refit(1.5 * data)
    follow(push_up, energy, data, num_steps=300, lr=0.05)
    mean, std, log_z = energy.mean.item(), energy.std.item(), push_up.log_partition.item()
    right = math.log(std * math.sqrt(2 * math.pi))
    assert mean == pytest.approx(data.mean().item(), abs=0.03)
    assert std == pytest.approx(data.std().item(), abs=0.03)
    assert log_z == pytest.approx(right, abs=0.03)
    result(f"mean {mean:.2f} of 0.5, deviation {std:.2f} of 0.7, log Z {log_z:.2f} of {right:.2f}")


@pytest.mark.proof("E6")
def test_the_loss_is_least_at_the_true_ratio() -> None:
    """The classifier that knows both densities has the logistic loss of the mixture's posterior."""
    torch.manual_seed(0)
    data, noise = torch.randn(1000), 1 + torch.randn(3000)

    def ratio(x: Tensor) -> Tensor:
        return 0.5 - x  # log N(x; 0, 1) / N(x; 1, 1)

    posterior = torch.sigmoid(ratio(data) - math.log(3))
    wrong = 1 - torch.sigmoid(ratio(noise) - math.log(3))
    expected = -(posterior.log().sum() + wrong.log().sum()) / 1000
    torch.testing.assert_close(noise_contrast(ratio(data), ratio(noise)), expected)
    shift = torch.zeros((), requires_grad=True)
    (gradient,) = torch.autograd.grad(noise_contrast(ratio(data) + shift, ratio(noise) + shift), shift)
    assert abs(gradient.item()) < 0.05  # of the order of the sampling error


@pytest.mark.proof("E8")
def test_score_matching_finds_the_precision_of_a_normal(result: Said) -> None:
    generator = Generator().manual_seed(0)
    mixing = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    data = torch.randn(400, 3, generator=generator, dtype=torch.float64) @ mixing + 1.0
    energy = Quadratic(3)
    least(lambda: ScoreMatching(num_probes=None)(energy, data)["loss"], energy, num_steps=200)
    expected = data.T.cov(correction=0).inverse()
    worst = ((energy.precision - expected).abs().max() / expected.abs().max()).item()
    assert worst < 1e-4
    torch.testing.assert_close(energy.centre, data.mean(0), atol=1e-3, rtol=0.0)
    result(f"precision of a normal equals the inverse covariance of the sample to {worst:.0e}")


@pytest.mark.proof("E8")
def test_the_laplacian_along_random_directions_is_the_exact_one_on_average() -> None:
    torch.manual_seed(0)
    energy, data = mlp(3, 16, 1), torch.randn(50, 3)

    def height(point: Tensor) -> Tensor:
        return energy(point).squeeze(-1)

    exact = score_matching(height, data)
    scores = -slope(height, data)
    hessian = [torch.autograd.functional.hessian(lambda x: height(x[None])[0], row) for row in data]
    by_hand = 0.5 * scores.square().sum(-1).mean() - torch.stack([one.trace() for one in hessian]).mean()
    torch.testing.assert_close(exact, by_hand)
    probes = torch.randint(2, (200, 50, 3)).float() * 2 - 1
    torch.testing.assert_close(score_matching(height, data, probes), exact, atol=0.02, rtol=0.02)
