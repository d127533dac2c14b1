"""How sure a number is: intervals for rates, means and paired differences. NumPy, no models, no tables.

Episodes of one vehicle or one scene are not independent; pass them as `clusters` and whole clusters are
resampled.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

NUM_RESAMPLES = 4000


@dataclass(frozen=True)
class Interval:
    """An estimate between its bounds."""

    estimate: float
    low: float
    high: float


def wilson(successes: float | int, n: float | int, *, confidence: float = 0.95) -> Interval:
    """Returns the share of successes with Wilson's score interval (Wilson 1927).

    Args:
        successes: that many; a fraction where `n` is an effective number.
        n: independent trials.

    Raises:
        ValueError: if `n` is 0 or fewer than the successes.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n}, expected 0 <= successes <= n and n > 0")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = successes / n
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return Interval(rate, float(max(0.0, centre - half)), float(min(1.0, centre + half)))


def clustered_wilson(
    values: Float[np.ndarray, " N"], clusters: np.ndarray, *, confidence: float = 0.95
) -> Interval:
    """Returns the share of successes with Wilson's interval for as many trials as the episodes are worth.

    Overlapping episodes of one vehicle, or of vehicles in one jam, tell less than as many independent ones.
    What they are worth is `n / deff` (Korn and Graubard 1998), the design effect being the ratio of the
    variances of the share with clusters, of `m_c` episodes and `s_c` successes each, and without:

        deff = C / (C - 1) sum_c (s_c - p m_c)^2 / (n p (1 - p)), at least 1

    Where all succeed or all fail, nothing is known of it; then every cluster counts as one trial.

    Args:
        values: 0 or 1 for each episode.
        clusters: what each belongs to.

    Raises:
        ValueError: without episodes, or without a cluster for each.
    """
    n = len(values)
    if n == 0 or len(clusters) != n:
        raise ValueError(
            f"{n} values, {len(clusters)} clusters: expected at least one value, and one cluster for each"
        )
    labels = np.unique(clusters, return_inverse=True)[1].ravel()
    size, successes = np.bincount(labels), np.bincount(labels, weights=values)
    num, rate = len(size), float(np.mean(values))
    worth = float(num)
    if 0.0 < rate < 1.0 < num:
        between = num / (num - 1) * float(np.square(successes - rate * size).sum())
        worth = n / max(1.0, between / (n * rate * (1 - rate)))
    return wilson(rate * worth, worth, confidence=confidence)


def bootstrap_mean(
    values: Float[np.ndarray, " N"],
    clusters: np.ndarray | None = None,
    *,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Returns the mean with its percentile bootstrap interval.

    Args:
        values: one for each episode.
        clusters: what each belongs to; clusters are drawn with replacement, with all their values.

    Raises:
        ValueError: if there is nothing to resample, or not one cluster for each value.
    """
    if len(values) == 0 or (clusters is not None and len(clusters) != len(values)):
        raise ValueError(
            f"{len(values)} values, {'no' if clusters is None else len(clusters)} clusters: expected "
            "at least one value, and one cluster for each"
        )
    labels = (
        np.arange(len(values)) if clusters is None else np.unique(clusters, return_inverse=True)[1].ravel()
    )
    total, count = np.bincount(labels, weights=values), np.bincount(labels)
    drawn = np.random.default_rng(seed).integers(len(total), size=(num_resamples, len(total)))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(np.mean(values)), float(low), float(high))


def bootstrap_seeds(
    values: Float[np.ndarray, "S N"],
    clusters: np.ndarray | None = None,
    *,
    against: Float[np.ndarray, "R N"] | None = None,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Returns the mean over seeds and episodes; both seeds and clusters of episodes are drawn anew.

    The interval says where another training, tested on other scenes of the same kind, might lie. Few seeds
    are a small sample of trainings: of three, the bootstrap shows two thirds of their variance.

    Args:
        values: one for each seed and episode; the episodes are the same for all seeds.
        clusters: what each episode belongs to; None: every episode to itself.
        against: the same episodes of another agent: the mean difference to it is returned. Its seeds are
            drawn anew as well; they are other trainings, and no pairs with ours.

    Raises:
        ValueError: if there is nothing to resample, or not one cluster for each episode.
    """
    num_seeds, num_episodes = values.shape
    if not values.size or (clusters is not None and len(clusters) != num_episodes):
        raise ValueError(
            f"{num_seeds} seeds of {num_episodes} episodes, {'no' if clusters is None else len(clusters)} "
            "clusters: expected at least one of each, and one cluster for each episode"
        )
    labels = (
        np.arange(num_episodes) if clusters is None else np.unique(clusters, return_inverse=True)[1].ravel()
    )
    count = np.bincount(labels).astype(float)  # (C,)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(count), np.full(len(count), 1 / len(count)), size=num_resamples)
    estimate, means = 0.0, np.zeros(num_resamples)
    for sign, side in ((1, values), (-1, against)):
        if side is not None:
            total = np.stack([np.bincount(labels, weights=row) for row in side])  # (S, C)
            seeds = rng.multinomial(len(side), np.full(len(side), 1 / len(side)), size=num_resamples)
            estimate += sign * float(side.mean())
            means += sign * (seeds @ total * drawn).sum(1) / (len(side) * (drawn @ count))
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, float(low), float(high))


def paired_difference(
    a: Float[np.ndarray, " N"],
    b: Float[np.ndarray, " M"],
    clusters: np.ndarray | None = None,
    *,
    seed: int = 0,
) -> Interval:
    """Returns the mean of `a - b` over the same episodes, with its bootstrap interval by cluster."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values, expected two of each episode in the same order")
    return bootstrap_mean(np.asarray(a, float) - np.asarray(b, float), clusters, seed=seed)
