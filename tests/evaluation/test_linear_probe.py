"""Reading labels off embeddings, against scikit-learn and by hand."""

import pytest
import torch
from sklearn.linear_model import Ridge, RidgeCV

from worldmodel.evaluation.linear_probe import effective_rank, fit_ridge, nearest, r_squared


def problem(num: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(num, dim, dtype=torch.float64) * torch.linspace(0.5, 3.0, dim, dtype=torch.float64) + 2.0
    y = x[:, :2] @ torch.tensor([[1.0, 0.0], [0.5, -2.0]], dtype=torch.float64) + torch.randn(num, 2).double()
    return x, y + 5.0


@pytest.mark.parametrize(("num", "dim"), [(80, 12), (30, 60)])
def test_ridge_is_scikit_learns(num: int, dim: int) -> None:
    x, y = problem(num, dim)
    scaled = (x - x.mean(0)) / x.std(0)
    for penalty in (0.1, 30.0):
        ours = fit_ridge(x, y, penalties=(penalty,))(x)
        theirs = Ridge(alpha=penalty).fit(scaled.numpy(), y.numpy()).predict(scaled.numpy())
        torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-9, atol=1e-9)


def test_the_penalty_chosen_is_as_good_as_that_of_leaving_one_out() -> None:
    x, y = problem(60, 40)
    scaled = ((x - x.mean(0)) / x.std(0)).numpy()
    found = fit_ridge(x, y)
    chosen = RidgeCV(alphas=[0.1, 1, 10, 100, 1000, 10000, 100000], alpha_per_target=True).fit(
        scaled, y.numpy()
    )
    ratio = found.penalty / torch.from_numpy(chosen.alpha_)
    assert bool(((ratio > 0.05) & (ratio < 20)).all())


def test_r_squared_by_hand() -> None:
    label = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    predicted = torch.tensor([[1.0, 2.0], [2.0, 2.0], [3.0, 2.0]])
    torch.testing.assert_close(r_squared(predicted, label), torch.tensor([1.0, 0.0], dtype=torch.float64))


def test_effective_rank_counts_directions() -> None:
    directions = torch.zeros(400, 10)
    for index in range(3):
        directions[index * 100 : (index + 1) * 100, index] = torch.tensor([1.0, -1.0]).repeat(50)
    assert effective_rank(directions) == pytest.approx(3.0)
    assert effective_rank(torch.ones(50, 4)) == 0.0
    line = torch.linspace(0, 1, 30)[:, None] @ torch.randn(1, 5)
    assert effective_rank(line) == pytest.approx(1.0, abs=1e-3)


def test_nearest_comes_first() -> None:
    known = torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]])
    distance, index = nearest(torch.tensor([[0.9, 0.0]]), known, num=2)
    assert index.tolist() == [[1, 0]]
    torch.testing.assert_close(distance, torch.tensor([[0.1, 0.9]]))
