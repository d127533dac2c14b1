"""Energies learnt in every way that the literature has, on problems whose densities are known."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.ssl.toys import Ising, divergence, ising_data, log_probability, some_ising
from worldmodel.ssl import (
    Contrast,
    Enumeration,
    FromData,
    Gibbs,
    MinimumFlow,
    Persistent,
    PushUp,
    RatioMatching,
)
from worldmodel.ssl.push_up import bit_strings, negative_log_likelihood

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
