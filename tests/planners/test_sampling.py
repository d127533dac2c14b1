"""Where samples come from, and how a Gaussian follows their costs."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from planners import cem, icem, mppi, random_shooting
from planners.cross_entropy import fit_elites
from planners.path_integral import fit_weighted, weights
from planners.sampling import Gaussian, coloured_noise, elites, evaluate, search

LOW, HIGH = torch.tensor(-1.0), torch.tensor(1.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("colour", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("length", [30, 7])
def test_the_noise_has_unit_variance_and_the_spectrum_of_its_colour(colour: float, length: int) -> None:
    noise = coloured_noise((20_000, length, 2), colour, generator=seeded(), like=torch.zeros(1).double())
    assert noise.var().item() == pytest.approx(1.0, abs=0.02)
    power = torch.fft.rfft(noise, dim=1).abs().square().mean((0, 2))[1:]
    expected = torch.arange(1, len(power) + 1).double() ** -colour
    torch.testing.assert_close(power / power[0], expected, atol=0.0, rtol=0.06)


def test_red_noise_is_smooth() -> None:
    white, red = (
        coloured_noise((500, 30, 2), colour, generator=seeded(), like=LOW).diff(dim=1).square().mean()
        for colour in (0.0, 2.5)
    )
    assert red < 0.2 * white


def test_a_single_number_has_no_colour() -> None:
    assert torch.equal(
        coloured_noise((5, 1), 2.0, generator=seeded(), like=LOW),
        coloured_noise((5, 1), 0.0, generator=seeded(), like=LOW),
    )


def test_elites_are_the_cheapest_in_order() -> None:
    cost = torch.tensor([[3.0, 1.0, 2.0], [math.inf, 5.0, 4.0]])
    point = torch.arange(6.0).reshape(2, 3, 1)
    assert elites(point, cost, 2).squeeze(2).tolist() == [[1.0, 2.0], [5.0, 4.0]]


def test_the_gaussian_is_fitted_to_the_elites() -> None:
    around = Gaussian(torch.tensor([[10.0]]), torch.tensor([[4.0]]))
    point = torch.tensor([[[1.0], [3.0], [100.0]]])
    fitted = fit_elites(around, point, torch.tensor([[0.0, 1.0, 2.0]]), num_elites=2, momentum=0.0)
    assert fitted.mean.item() == 2.0 and fitted.std.item() == 1.0
    mixed = fit_elites(around, point, torch.tensor([[0.0, 1.0, 2.0]]), num_elites=2, momentum=0.25)
    assert mixed.mean.item() == 4.0 and mixed.std.item() == 1.75
    lonely = fit_elites(around, point, torch.tensor([[0.0, math.inf, math.inf]]), num_elites=2, momentum=0.0)
    assert lonely.mean.item() == 1.0 and lonely.std.item() == 0.0


def test_weights_are_a_softmax_of_standardised_costs() -> None:
    cost = torch.tensor([[1.0, 3.0, math.inf]])  # mean 2, deviation 1
    found = weights(cost, temperature=0.5)[0]
    expected = torch.tensor([math.exp(2), math.exp(-2), 0.0])
    torch.testing.assert_close(found, expected / expected.sum())
    torch.testing.assert_close(weights(7 + 100 * cost, temperature=0.5)[0], found)  # no scale
    assert weights(torch.full((1, 3), math.inf), temperature=0.5).tolist() == [[0.0, 0.0, 0.0]]
    torch.testing.assert_close(weights(torch.ones(1, 4), temperature=0.5), torch.full((1, 4), 0.25))


def test_the_mean_moves_to_the_weighted_candidates() -> None:
    around = Gaussian(torch.zeros(1, 1), torch.ones(1, 1))
    cost, point = torch.tensor([[1.0, 3.0]]), torch.tensor([[[1.0], [-1.0]]])
    fitted = fit_weighted(around, point, cost, temperature=0.5, shrink=0.8)
    assert fitted.mean.item() == pytest.approx(math.tanh(2.0)) and fitted.std.item() == pytest.approx(0.8)


def test_an_iteration_without_a_finite_cost_leaves_the_gaussian_alone() -> None:
    seen = []

    def refit(around: Gaussian, point: Tensor, cost: Tensor) -> Gaussian:
        seen.append(around)
        return Gaussian(around.mean + 0.1, around.std / 2)

    def objective(point: Tensor) -> Tensor:
        return torch.where(torch.tensor([[True], [False]]), point.sum(2), math.nan)

    start = torch.full((2, 1, 1), 0.5)
    search(
        objective, start, low=LOW, high=HIGH, generator=seeded(), refit=refit,
        num_iterations=3, num_samples=4, std=0.5,
    )  # fmt: skip
    last = seen[-1]
    torch.testing.assert_close(last.mean[:, 0], torch.tensor([0.7, 0.5]))
    torch.testing.assert_close(last.std[:, 0], torch.tensor([0.125, 0.5]))


def test_candidates_are_evaluated_in_parts_without_gradient() -> None:
    sizes = []

    def objective(point: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        sizes.append(point.shape[1])
        return torch.where(point[..., 0] > 6, math.nan, point[..., 0])

    point = torch.arange(8.0).reshape(1, 8, 1).expand(3, -1, -1)
    cost = evaluate(objective, point, max_rows=10)
    assert sizes == [3, 3, 2]
    assert cost[1].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, math.inf]
    assert evaluate(objective, point, max_rows=1).shape == (3, 8)  # never less than one a scene


def test_populations_shrink_and_elites_live_on() -> None:
    sizes, best = [], []

    def objective(point: Tensor) -> Tensor:
        cost = (point - 0.3).square().sum((2, 3))
        sizes.append(point.shape[1])
        best.append(cost.min().item())
        return cost

    found = icem(
        objective, torch.zeros(1, 1, 5, 2), low=LOW, high=HIGH, generator=seeded(),
        num_iterations=3, num_samples=40, num_elites=10, share_kept=0.3, decay=2.0,
    )  # fmt: skip
    assert sizes == [1, 1 + 1 + 40, 1 + 3 + 20, 1 + 3 + 10]
    assert found.others is not None and torch.equal(found.others[:, 0], found.argument)
    assert best[3] <= best[2] <= best[1]


@pytest.mark.parametrize("optimizer", [cem, icem, mppi, random_shooting])
def test_samples_are_seeded_and_shared_by_the_scenes(optimizer) -> None:
    points = []

    def objective(point: Tensor) -> Tensor:
        points.append(point)
        return point.square().sum((2, 3))

    run = partial(optimizer, objective, torch.zeros(2, 1, 4, 2), low=LOW, high=HIGH, num_iterations=1)
    one, again, other = (run(generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(one.argument, again.argument)
    assert torch.equal(points[0][0], points[0][1])
    assert not torch.equal(points[len(points) // 3 - 1], points[-1]) and other.cost.isfinite().all()
    assert all(point.min() >= -1.0 and point.max() <= 1.0 for point in points)
