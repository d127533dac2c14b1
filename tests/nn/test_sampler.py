"""Markov chains reach the distributions that they are made for."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from worldmodel.nn.sampler import gibbs, hmc, langevin, leapfrog, mala, metropolis, slope

PRECISION = torch.tensor([[1.0, 0.8], [0.8, 1.0]]).inverse()


def correlated(point: Tensor) -> Tensor:
    """A normal distribution with variances of one and a correlation of 0.8."""
    return 0.5 * ((point @ PRECISION.to(point)) * point).sum(-1)


def double_well(point: Tensor) -> Tensor:
    return (point.square() - 1).square().sum(-1)


def moments(power: int) -> float:
    """Of the double well, by quadrature."""
    line = torch.linspace(-4, 4, 4001, dtype=torch.float64)
    weight = (-double_well(line[:, None])).exp()
    return (weight * line**power).sum().item() / weight.sum().item()


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


EXACT: dict[str, Callable[..., Tensor]] = {
    "metropolis": lambda energy, start: (
        metropolis(energy, start, step_std=0.8, num_steps=150, generator=seeded()).point
    ),
    "mala": lambda energy, start: mala(energy, start, step=0.5, num_steps=100, generator=seeded()).point,
    "hmc": lambda energy, start: (
        hmc(energy, start, step=0.3, num_leaps=6, num_steps=15, generator=seeded()).point
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_chains_with_rejection_have_the_moments_of_the_double_well(name: str) -> None:
    start = 2 * torch.rand(4000, 1, generator=seeded(1)) - 1
    found = EXACT[name](double_well, start)
    for power in (1, 2, 4):
        allowed = 4 * found.pow(power).std().item() / math.sqrt(4000)
        assert found.pow(power).mean().item() == pytest.approx(moments(power), abs=allowed)


def test_langevin_without_rejection_is_off_by_what_theory_says() -> None:
    curvature, step = 4.0, 0.5
    found = langevin(
        lambda point: 0.5 * curvature * point.square().sum(-1),
        torch.zeros(20000, 1),
        step=step,
        num_steps=40,
        generator=seeded(),
    )
    assert found.var().item() == pytest.approx(1 / (curvature * (1 - step**2 * curvature / 4)), rel=0.04)
    assert found.var().item() > 1.2 / curvature


def test_langevin_without_noise_descends() -> None:
    start = torch.tensor([[0.3], [-0.4]])
    found = langevin(double_well, start, step=0.3, num_steps=100, noise=0.0)
    torch.testing.assert_close(found, torch.tensor([[1.0], [-1.0]]))


def test_leapfrog_goes_back_where_it_came_from() -> None:
    position, momentum = torch.randn(2, 5, 2, generator=seeded(), dtype=torch.float64)
    there, late = leapfrog(correlated, position, momentum, step=0.2, num_leaps=20)
    back, early = leapfrog(correlated, there, -late, step=0.2, num_leaps=20)
    torch.testing.assert_close(back, position)
    torch.testing.assert_close(-early, momentum)


def test_a_chain_that_has_moved_is_of_the_shape_of_its_start_and_keeps_no_graph() -> None:
    start = torch.rand(3, 2, 4, 5, requires_grad=True)

    def energy(point: Tensor) -> Tensor:
        return point.flatten(1).square().sum(-1)

    for found in (
        metropolis(energy, start, step_std=0.1, num_steps=2).point,
        langevin(energy, start, step=0.1, num_steps=2),
        hmc(energy, start, step=0.1, num_leaps=2, num_steps=2).point,
        gibbs(energy, start.round(), num_updates=3),
        slope(energy, start),
    ):
        assert found.shape == start.shape and not found.requires_grad


def test_samplers_work_where_gradients_are_switched_off() -> None:
    with torch.no_grad():
        assert torch.isfinite(langevin(double_well, torch.zeros(2, 1), step=0.1, num_steps=2)).all()


def test_the_same_generator_gives_the_same_chain() -> None:
    start = torch.zeros(4, 1)
    one, other = (mala(double_well, start, step=0.3, num_steps=5, generator=seeded(7)) for _ in range(2))
    assert torch.equal(one.point, other.point)
