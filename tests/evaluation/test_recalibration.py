"""Recalibrated spreads by hand, and on made-up windows whose true spread is known."""

import numpy as np
import pytest

from worldmodel.evaluation.recalibration import every_second_vehicle, recalibrate


def test_factors_by_hand() -> None:
    """The first two windows are fitted on: errors of 2 and 4 where 1 was said; the third err by 6."""
    variance = np.ones((3, 1))
    error = np.array([[4.0], [16.0], [36.0]])
    found = recalibrate(variance, error, np.array([True, True, False]), miss=0.5)
    assert found.factor.tolist() == pytest.approx([10**0.5])
    assert found.ratio_before.tolist() == pytest.approx([1 / 6])
    assert found.ratio_after.tolist() == pytest.approx([10**0.5 / 6])
    assert found.bound.tolist() == [4.0]  # the second of two: (2 + 1) * 0.5 rounded up
    assert found.held_before.tolist() == [0.0] and found.held_after.tolist() == [0.0]


def test_a_spread_that_is_too_small_by_a_factor_is_mended_at_each_horizon() -> None:
    """Errors are as large as `variance`, but a twentieth and a quarter of the variance was said."""
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(400), 2)
    truth = rng.uniform(0.5, 2.0, size=(800, 2))
    error = truth * rng.exponential(size=truth.shape)
    found = recalibrate(truth * [0.05, 0.25], error, every_second_vehicle(cluster), miss=0.1)
    np.testing.assert_allclose(found.factor, [20**0.5, 2.0], rtol=0.1)
    np.testing.assert_allclose(found.ratio_before, [0.05**0.5, 0.5], rtol=0.1)
    np.testing.assert_allclose(found.ratio_after, 1.0, atol=0.1)
    np.testing.assert_allclose(found.held_before, [1 - np.exp(-0.05), 1 - np.exp(-0.25)], atol=0.06)
    np.testing.assert_allclose(found.held_after, 0.9, atol=0.05)
    np.testing.assert_allclose(found.bound, np.sqrt(np.log(10) / np.array([0.05, 0.25])), rtol=0.1)


def test_too_few_windows_promise_nothing() -> None:
    found = recalibrate(np.ones((4, 1)), np.ones((4, 1)), np.array([True, True, False, False]), miss=0.1)
    assert found.bound.tolist() == [np.inf] and found.held_after.tolist() == [1.0]


def test_vehicles_are_not_torn_apart() -> None:
    assert every_second_vehicle(np.array([7, 3, 7, 9, 3])).tolist() == [False, True, False, True, True]
    with pytest.raises(ValueError, match="2 of 2 windows to fit on"):
        recalibrate(np.ones((2, 1)), np.ones((2, 1)), np.array([True, True]), miss=0.1)
