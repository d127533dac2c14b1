"""Whether a model's probabilities and spreads mean what they say, and how to mend them with a guarantee.

Reliability: what was predicted with probability `p` should come true with frequency `p`, and errors should
be as large as the predicted standard deviation. Both are sums over bins, one row for each horizon step, so
they add up over batches. Conformal prediction turns any score into a bound that holds for new windows with a
chosen probability, whatever the model, if the windows are exchangeable with those it was calibrated on (Vovk
et al. 2005; Lei et al. 2018): calibrate and test on different vehicles.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldmodel.types import Indexed


@dataclass(frozen=True)
class Bins(Indexed):
    """What was predicted and what came, summed over bins of the prediction, for each horizon step.

    Attributes:
        count: weight of the pixels in each bin.
        predicted: sum of their predictions.
        observed: sum of what came.
    """

    count: Float[Tensor, "T N"]
    predicted: Float[Tensor, "T N"]
    observed: Float[Tensor, "T N"]

    def __add__(self, other: "Bins") -> "Bins":
        return Bins(
            self.count + other.count, self.predicted + other.predicted, self.observed + other.observed
        )

    @property
    def mean_predicted(self) -> Float[Tensor, "T N"]:
        """Mean prediction of each bin; nan where it is empty."""
        return torch.where(self.count > 0, self.predicted / self.count.clamp_min(1e-12), torch.nan)

    @property
    def mean_observed(self) -> Float[Tensor, "T N"]:
        """Observed frequency (or squared error) of each bin; nan where it is empty."""
        return torch.where(self.count > 0, self.observed / self.count.clamp_min(1e-12), torch.nan)


def bin_predictions(
    key: Float[Tensor, "B T *P"],
    predicted: Float[Tensor, "B T *P"],
    observed: Float[Tensor, "B T *P"],
    *,
    weight: Float[Tensor, "B T *P"],
    edges: Float[Tensor, " E"],
) -> Bins:
    """Returns the sums over bins of `key`; bin `i` is `edges[i] <= key < edges[i + 1]`, the last one closed.

    Args:
        weight: of each pixel; 0 leaves it out.
        edges: ascending; keys outside count into the first or the last bin.
    """
    steps, num = key.shape[1], len(edges) - 1
    step = torch.arange(steps, device=key.device).reshape(1, -1, *[1] * (key.ndim - 2))
    index = (torch.bucketize(key.contiguous(), edges[1:-1], right=True) + num * step).flatten()

    def total(value: Tensor) -> Tensor:
        sums = torch.zeros(steps * num, dtype=torch.float64, device=key.device)
        return sums.index_add(0, index, (value * weight).flatten().double()).unflatten(0, (steps, num))

    return Bins(total(torch.ones_like(key)), total(predicted), total(observed))


def occupancy_bins(
    predicted: Float[Tensor, "B T 1 H W"],
    target: Float[Tensor, "B T 1 H W"],
    covered: Bool[Tensor, "B T 1 H 1"],
    *,
    num_bins: int = 20,
) -> Bins:
    """Returns the reliability of occupancy: grey values are probabilities, and shares of pixels."""
    edges = torch.linspace(0, 1, num_bins + 1, device=predicted.device, dtype=predicted.dtype)
    weight = covered.to(predicted.dtype).expand_as(predicted)
    return bin_predictions(predicted, predicted, target, weight=weight, edges=edges)


def spread_bins(
    variance: Float[Tensor, "B T 1 H W"],
    squared_error: Float[Tensor, "B T 1 H W"],
    covered: Bool[Tensor, "B T 1 H 1"],
    *,
    edges: tuple[float, ...] = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5),
) -> Bins:
    """Returns predicted variance against squared error, in bins of the predicted standard deviation."""
    std = variance.clamp_min(0).sqrt()
    weight = covered.to(std.dtype).expand_as(std)
    return bin_predictions(std, variance, squared_error, weight=weight, edges=std.new_tensor(edges))


def error_of_mean(draws: Float[Tensor, "N *B"], target: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Returns the squared error that the mean of ever more draws would have; unbiased for two or more.

    The mean of `N` draws errs by another `variance / N`, which is taken off, so single values may lie below
    0. Where the target is one more draw from the same distribution, the rest is its variance. A single draw
    is taken for certain.
    """
    wrong = (draws.mean(0) - target).square()
    return wrong - draws.var(0) / len(draws) if len(draws) > 1 else wrong


def expected_calibration_error(bins: Bins, *, skip: int = 0) -> Float[Tensor, " T"]:
    """Returns `sum_n count_n |predicted_n - observed_n| / sum_n count_n` (ECE), for each step; nan if empty.

    Args:
        skip: lowest bins left out: nearly all pixels are surely free, and would hide the rest.
    """
    gap = (bins.predicted - bins.observed).abs()[:, skip:].sum(1)
    count = bins.count[:, skip:].sum(1)
    return torch.where(count > 0, gap / count.clamp_min(1e-12), torch.nan)


def bias(bins: Bins, *, skip: int = 0) -> Float[Tensor, " T"]:
    """Returns mean prediction minus mean observation, for each step: positive where too much is expected."""
    count = bins.count[:, skip:].sum(1)
    gap = (bins.predicted - bins.observed)[:, skip:].sum(1)
    return torch.where(count > 0, gap / count.clamp_min(1e-12), torch.nan)


def spread_ratio(bins: Bins) -> Float[Tensor, " T"]:
    """Returns the root of predicted variance over squared error: 1 is right, 0.1 ten times too sure."""
    return (bins.predicted.sum(1) / bins.observed.sum(1).clamp_min(1e-12)).sqrt()


def conformal_quantile(scores: Float[np.ndarray, "N *T"], *, miss: float) -> Any:
    """Returns the `ceil((N + 1)(1 - miss))`-th smallest score: a new one is at most that, mostly.

    For exchangeable scores `P(new <= quantile) >= 1 - miss`, and at most `1 - miss + 1 / (N + 1)` without
    ties. Infinite where `N` is too small to promise that.

    Args:
        scores: one for each window, higher is worse; columns (horizon steps) are treated apart.
        miss: accepted probability of a larger one, in (0, 1).

    Raises:
        ValueError: no scores, or a probability outside (0, 1).
    """
    num = len(scores)
    if num == 0 or not 0.0 < miss < 1.0:
        raise ValueError(
            f"{num} scores, miss={miss}: expected at least one score, and a probability in (0, 1)"
        )
    rank = int(np.ceil((num + 1) * (1 - miss) - 1e-9))
    if rank > num:
        return np.full(scores.shape[1:], np.inf)[()]
    return np.sort(scores, axis=0)[rank - 1]


def catching_threshold(
    predicted: Float[Tensor, "B T 1 H W"],
    target: Float[Tensor, "B T 1 H W"],
    covered: Bool[Tensor, "B T 1 H 1"],
    *,
    share: float = 0.9,
) -> Float[Tensor, "B T"]:
    """Returns the largest threshold at which `predicted >= threshold` holds `share` of the occupied area.

    1 where nothing is occupied: nothing can be missed. Its conformal lower quantile is a threshold below
    which pixels may be called free: for all but a fraction `miss` of new windows, at most `1 - share` of what
    is occupied lies below.
    """
    weight = (target * covered).flatten(2)
    value, order = predicted.flatten(2).sort(dim=-1, descending=True)
    caught = weight.gather(-1, order).cumsum(-1)
    total = caught[..., -1:]
    enough = caught >= share * total - 1e-6 * total.clamp_min(1.0)
    first = enough.to(torch.uint8).argmax(-1, keepdim=True)
    return torch.where(total.squeeze(-1) > 0, value.gather(-1, first).squeeze(-1), 1.0)


def conformal_threshold(catching: Float[np.ndarray, "N *T"], *, miss: float) -> Any:
    """Returns the threshold, for each step, that new windows' `catching_threshold` exceeds: mostly.

    At least with probability `1 - miss`; 0 (everything counts as occupied) where `N` is too small.
    """
    return np.maximum(-conformal_quantile(-np.asarray(catching), miss=miss), 0.0)


def rank_correlation(a: Float[np.ndarray, " N"], b: Float[np.ndarray, " N"]) -> float:
    """Returns Spearman's rank correlation; 0 where one of the two never varies.

    Ties share their mean rank.
    """
    ranks = [_ranks(np.asarray(one, float)) for one in (a, b)]
    spreads = [one.std() for one in ranks]
    if len(a) < 2 or min(spreads) == 0:
        return 0.0
    centred = [one - one.mean() for one in ranks]
    return float((centred[0] * centred[1]).mean() / (spreads[0] * spreads[1]))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    return (ends - (count - 1) / 2)[inverse.ravel()]
