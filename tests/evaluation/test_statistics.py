"""Intervals agree with scipy and with hand-made cases."""

import numpy as np
import pytest
from scipy.stats import binomtest

from worldmodel.evaluation.statistics import bootstrap_mean, bootstrap_seeds, paired_difference, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (7, 10), (10, 10), (111, 183)])
def test_wilson_agrees_with_scipy(successes, n):
    got = wilson(successes, n)
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    assert (got.estimate, got.low, got.high) == pytest.approx((successes / n, expected.low, expected.high))


def test_bootstrap_of_independent_values_has_the_normal_width():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    got = bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    assert got.estimate == pytest.approx(values.mean())
    assert (got.low, got.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_copies_within_a_cluster_do_not_narrow_the_interval():
    values = np.random.default_rng(1).normal(size=50)
    once = bootstrap_mean(values, np.arange(50))
    copied = bootstrap_mean(np.repeat(values, 8), np.repeat(np.arange(50), 8))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    naive = bootstrap_mean(np.repeat(values, 8))
    assert naive.high - naive.low < 0.5 * (once.high - once.low)


def test_the_paired_difference_ignores_what_episodes_have_in_common():
    difficulty = np.random.default_rng(2).normal(scale=10.0, size=100)
    got = paired_difference(difficulty + 1.0, difficulty)
    assert (got.estimate, got.low, got.high) == pytest.approx((1.0, 1.0, 1.0))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="3 successes of 2"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="0 values"):
        bootstrap_mean(np.zeros(0))
    with pytest.raises(ValueError, match="2 and 3 values"):
        paired_difference(np.zeros(2), np.zeros(3))


def test_seeds_are_resampled_as_well_as_clusters() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(20), 5)
    same = np.repeat(rng.random(20), 5)  # one value a cluster
    one = bootstrap_seeds(same[None], clusters)
    alone = bootstrap_mean(same, clusters)
    assert one.estimate == pytest.approx(alone.estimate)
    assert (one.low, one.high) == (pytest.approx(alone.low, abs=0.02), pytest.approx(alone.high, abs=0.02))
    # Seeds that agree add nothing; seeds that differ widen the interval by as much as they differ.
    twice = bootstrap_seeds(np.stack([same, same]), clusters)
    assert (twice.estimate, twice.low, twice.high) == pytest.approx((one.estimate, one.low, one.high))
    apart = bootstrap_seeds(np.stack([same - 1, same + 1]), clusters)
    assert apart.estimate == pytest.approx(one.estimate)
    assert apart.low < one.low - 0.8 and apart.high > one.high + 0.8
    with pytest.raises(ValueError, match="one cluster for each episode"):
        bootstrap_seeds(np.zeros((2, 3)), np.zeros(2))
