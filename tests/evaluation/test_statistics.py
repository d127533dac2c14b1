"""Intervals agree with scipy and with hand-made cases."""

import numpy as np
import pytest
from scipy.stats import binomtest

from worldmodel.evaluation.statistics import (
    bootstrap_mean,
    bootstrap_seeds,
    clustered_wilson,
    paired_difference,
    wilson,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (7, 10), (10, 10), (111, 183)])
def test_wilson_agrees_with_scipy(successes, n):
    got = wilson(successes, n)
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    assert (got.estimate, got.low, got.high) == pytest.approx((successes / n, expected.low, expected.high))


def test_episodes_that_are_copies_of_each_other_are_worth_one() -> None:
    once = np.array([1.0] * 30 + [0.0] * 10)
    copied = clustered_wilson(np.repeat(once, 8), np.repeat(np.arange(40), 8))
    # deff = 40 / 39 * 8, by hand: every cluster is 8 times its first episode.
    expected = wilson(0.75 * 39, 39)
    assert (copied.estimate, copied.low, copied.high) == pytest.approx((0.75, expected.low, expected.high))
    # Neighbours that differ do not make an interval narrower than independent ones.
    mixed = clustered_wilson(np.tile([1.0, 0.0], 50), np.repeat(np.arange(50), 2))
    assert (mixed.low, mixed.high) == (wilson(50, 100).low, wilson(50, 100).high)
    # What never happens has happened in none of so many clusters.
    assert clustered_wilson(np.zeros(80), np.repeat(np.arange(10), 8)) == wilson(0, 10)
    assert clustered_wilson(np.array([1.0, 0.0]), np.zeros(2)) == wilson(0.5, 1)
    with pytest.raises(ValueError, match="2 values, 1 clusters"):
        clustered_wilson(np.zeros(2), np.zeros(1))


def test_clustered_wilson_holds_the_truth_as_often_as_it_says() -> None:
    """Clusters of ten whose own rates are 1 in nine of ten cases; the interval for independent ones fails."""
    rng, clusters = np.random.default_rng(0), np.repeat(np.arange(60), 10)
    held = {"clustered": 0, "independent": 0}
    for _ in range(400):
        values = np.repeat(rng.random(60) < 0.9, 10).astype(float)
        for name, one in (
            ("clustered", clustered_wilson(values, clusters)),
            ("independent", wilson(values.sum(), len(values))),
        ):
            held[name] += one.low <= 0.9 <= one.high
    assert held["clustered"] > 0.92 * 400 and held["independent"] < 0.6 * 400


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


def test_a_difference_knows_that_the_other_side_was_trained_too() -> None:
    """Two agents of one distribution of trainings: the interval holds zero about as often as it says."""
    rng, clusters, told = np.random.default_rng(0), np.arange(40), {"both": 0, "one": 0}
    for trial in range(150):
        mine, theirs = (
            0.8 + 0.05 * rng.standard_normal((3, 1)) + 0.1 * rng.random((3, 40)) for _ in range(2)
        )
        both = bootstrap_seeds(mine, clusters, against=theirs, num_resamples=400, seed=trial)
        one = bootstrap_seeds(mine - theirs.mean(0), clusters, num_resamples=400, seed=trial)
        assert both.estimate == pytest.approx(one.estimate) == pytest.approx(mine.mean() - theirs.mean())
        told["both"] += not both.low <= 0 <= both.high
        told["one"] += not one.low <= 0 <= one.high
    assert told["both"] < 0.2 * 150 < told["one"]
    # One seed a side: the paired difference.
    values, others = rng.random((2, 40))
    paired = bootstrap_mean(values - others, clusters)
    got = bootstrap_seeds(values[None], clusters, against=others[None])
    assert (got.low, got.high) == (pytest.approx(paired.low, abs=0.02), pytest.approx(paired.high, abs=0.02))
