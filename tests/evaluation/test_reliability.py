"""Reliability against scikit-learn and by hand; conformal bounds keep their promise on made-up data."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve

from worldmodel.evaluation.reliability import (
    bias,
    catching_threshold,
    conformal_quantile,
    conformal_threshold,
    error_of_mean,
    expected_calibration_error,
    occupancy_bins,
    rank_correlation,
    spread_bins,
    spread_ratio,
)


def make_occupancy(
    batch: int = 200, *, power: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Predictions p, and pixels that are occupied with probability p^power."""
    generator = torch.Generator().manual_seed(0)
    predicted = torch.rand(batch, 2, 1, 16, 8, generator=generator)
    target = (torch.rand(predicted.shape, generator=generator) < predicted**power).float()
    return predicted, target, torch.ones(batch, 2, 1, 16, 1, dtype=torch.bool)


def test_reliability_is_scikit_learns() -> None:
    predicted, target, covered = make_occupancy(power=2.0)
    bins = occupancy_bins(predicted, target, covered, num_bins=10)
    for step in range(2):
        true, mean = calibration_curve(
            target[:, step].flatten().numpy(), predicted[:, step].flatten().numpy(), n_bins=10
        )
        np.testing.assert_allclose(bins.mean_observed[step], true, atol=1e-6)
        np.testing.assert_allclose(bins.mean_predicted[step], mean, atol=1e-6)


def test_honest_probabilities_have_no_calibration_error_and_boastful_ones_do() -> None:
    honest = occupancy_bins(*make_occupancy(), num_bins=10)
    assert float(expected_calibration_error(honest).max()) < 0.02
    boastful = occupancy_bins(*make_occupancy(power=2.0), num_bins=10)
    # E|p - p^2| = 1/6 for uniform p
    torch.testing.assert_close(
        expected_calibration_error(boastful), torch.full((2,), 1 / 6).double(), atol=0.01, rtol=0
    )
    assert float(bias(boastful).min()) == pytest.approx(1 / 6, abs=0.01)


def test_bins_by_hand() -> None:
    """Three pixels at 0.1, 0.3 and 0.9, of which the last two were occupied; another row is not covered."""
    predicted = torch.tensor([[0.1, 0.3, 0.9], [0.9, 0.9, 0.9]]).reshape(1, 1, 1, 2, 3)
    target = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]).reshape(1, 1, 1, 2, 3)
    covered = torch.tensor([True, False]).reshape(1, 1, 1, 2, 1)
    bins = occupancy_bins(predicted, target, covered, num_bins=2)
    assert bins.count.tolist() == [[2.0, 1.0]]
    torch.testing.assert_close(bins.mean_predicted, torch.tensor([[0.2, 0.9]]).double(), atol=1e-6, rtol=0)
    assert bins.mean_observed.tolist() == [[0.5, 1.0]]
    assert float(expected_calibration_error(bins)) == pytest.approx((2 * 0.3 + 1 * 0.1) / 3, abs=1e-6)
    assert float(expected_calibration_error(bins, skip=1)) == pytest.approx(0.1, abs=1e-6)
    assert float(bias(bins, skip=1)) == pytest.approx(-0.1, abs=1e-6)
    twice = bins + bins
    torch.testing.assert_close(twice.mean_predicted, bins.mean_predicted)
    assert twice.count.tolist() == [[4.0, 2.0]]
    empty = occupancy_bins(predicted, target, torch.zeros_like(covered), num_bins=2)
    assert bool(expected_calibration_error(empty).isnan())


def test_spread_that_matches_the_errors_has_ratio_one() -> None:
    generator = torch.Generator().manual_seed(0)
    std = 0.3 * torch.rand(200, 2, 1, 16, 8, generator=generator)
    error = std * torch.randn(std.shape, generator=generator)
    covered = torch.ones(200, 2, 1, 16, 1, dtype=torch.bool)
    bins = spread_bins(std.square(), error.square(), covered)
    torch.testing.assert_close(spread_ratio(bins), torch.ones(2).double(), atol=0.03, rtol=0)
    filled = bins.count > 1000
    ratio = (bins.mean_observed / bins.mean_predicted)[filled]
    torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=0.1, rtol=0)
    narrow = spread_bins(std.square() / 100, error.square(), covered)
    torch.testing.assert_close(spread_ratio(narrow), torch.full((2,), 0.1).double(), atol=0.01, rtol=0)


def test_error_of_the_mean_by_hand() -> None:
    """Draws 0 and 1 with mean .5 and variance .5, of which the mean has half: .25 - .25 and 2.25 - .25."""
    draws = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    target = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(error_of_mean(draws, target), torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(error_of_mean(draws[:1], target), torch.tensor([1.0, 4.0]))


@pytest.mark.parametrize("num_draws", [2, 3, 16])
def test_draws_from_exactly_the_truth_are_as_wrong_as_they_spread(num_draws: int) -> None:
    """Whatever their number; without the correction the ratio would be sqrt(N / (N + 1))."""
    occupied, target, covered = make_occupancy()
    generator = torch.Generator().manual_seed(1)
    draws = (torch.rand(num_draws, *target.shape, generator=generator) < occupied).float()
    bins = spread_bins(draws.var(0), error_of_mean(draws, target), covered)
    np.testing.assert_allclose(spread_ratio(bins).numpy(), 1.0, atol=0.02)


def test_conformal_quantile_by_hand() -> None:
    scores = np.array([5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 7.0, 8.0, 6.0])
    assert conformal_quantile(scores, miss=0.2) == 8.0  # ceil(10 * 0.8) = 8th of 9
    assert conformal_quantile(scores, miss=0.1) == 9.0
    assert conformal_quantile(scores[:8], miss=0.1) == np.inf  # 1 / miss - 1 are needed
    assert conformal_quantile(scores, miss=0.05) == np.inf  # nine scores cannot promise 95 %
    both = np.stack([scores, 10 * scores], axis=1)
    assert conformal_quantile(both, miss=0.2).tolist() == [8.0, 80.0]
    with pytest.raises(ValueError, match="0 scores"):
        conformal_quantile(scores[:0], miss=0.1)
    with pytest.raises(ValueError, match="miss=1"):
        conformal_quantile(scores, miss=1.0)


@pytest.mark.parametrize("num", [19, 100])
def test_conformal_bounds_cover_new_scores_as_promised(num: int) -> None:
    """Over many draws the coverage lies between 1 - miss and 1 - miss + 1 / (N + 1), whatever the scores."""
    rng = np.random.default_rng(0)
    draws = rng.standard_t(2, size=(6000, num + 1)) ** 2  # heavy-tailed on purpose
    covered = [row[-1] <= conformal_quantile(row[:-1], miss=0.1) for row in draws]
    error = 4 * np.sqrt(0.09 / len(draws))
    assert 0.9 - error < np.mean(covered) < 0.9 + 1 / (num + 1) + error


def test_a_scale_makes_wrong_spreads_cover() -> None:
    """Errors are thrice the predicted deviation: the scale comes out so that 90 % of new ones are inside."""
    rng = np.random.default_rng(0)
    std = rng.uniform(0.5, 2.0, 4000)
    error = np.abs(3 * std * rng.standard_normal(4000))
    scale = conformal_quantile(error[:2000] / std[:2000], miss=0.1)
    assert scale == pytest.approx(3 * 1.645, rel=0.06)
    assert np.mean(error[2000:] <= scale * std[2000:]) == pytest.approx(0.9, abs=0.02)


def test_catching_threshold_by_hand() -> None:
    predicted = torch.tensor([0.9, 0.8, 0.2, 0.5]).reshape(1, 1, 1, 4, 1)
    target = torch.tensor([1.0, 0.5, 0.5, 0.0]).reshape(1, 1, 1, 4, 1)
    covered = torch.ones(1, 1, 1, 4, 1, dtype=torch.bool)
    for share, expected in ((0.5, 0.9), (0.75, 0.8), (0.9, 0.2), (1.0, 0.2)):
        found = catching_threshold(predicted, target, covered, share=share)
        assert float(found) == pytest.approx(expected)
    covered[0, 0, 0, 2] = False
    assert float(catching_threshold(predicted, target, covered, share=0.9)) == pytest.approx(0.8)
    assert float(catching_threshold(predicted, torch.zeros_like(target), covered)) == 1.0


def test_a_conformal_threshold_rarely_calls_the_occupied_free() -> None:
    predicted, target, covered = make_occupancy(400, power=3.0)
    catching = catching_threshold(predicted, target, covered, share=0.9).numpy()
    threshold = conformal_threshold(catching[:200], miss=0.1)
    assert threshold.shape == (2,)
    assert (np.abs((catching[200:] >= threshold).mean(0) - 0.9) < 0.07).all()
    assert conformal_threshold(catching[:5], miss=0.1).tolist() == [0.0, 0.0]


def test_rank_correlation_sees_order_only() -> None:
    a = np.array([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(a, np.exp(a)) == pytest.approx(1.0)
    assert rank_correlation(a, -(a**3)) == pytest.approx(-1.0)
    assert rank_correlation(a, np.ones(4)) == 0.0
    from scipy.stats import spearmanr

    b = np.array([2.0, 2.0, 1.0, 5.0])
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
