"""The spread made honest: a factor for each horizon, fitted on some vehicles and tried on others.

Two numbers, because two things are asked of a spread. *As large as the error on average*: the factor
`sqrt(mean squared error / mean variance)`. *A bound that holds*: the multiple of the spread that a window's
error exceeds with probability `miss` at most, by split conformal prediction; no factor that is right on
average promises that. Knows neither models nor pixels: errors and variances come as one number for each
window and step.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from worldmodel.evaluation.reliability import conformal_quantile

TINY = 1e-12
"""Smallest variance to divide by."""


@dataclass(frozen=True)
class Recalibration:
    """What the spread has to be multiplied by, and what that does to windows that were not used; by step.

    Attributes:
        factor: makes the spread as large as the error.
        ratio_before, ratio_after: spread over error (root mean squares) without and with the factor; 1 is
            right.
        bound: multiples of the (original) spread that an error stays below, mostly; infinite for too few
            windows.
        held_before, held_after: share of windows whose error is below the spread, and below `bound` of it.
    """

    factor: Float[np.ndarray, " T"]
    ratio_before: Float[np.ndarray, " T"]
    ratio_after: Float[np.ndarray, " T"]
    bound: Float[np.ndarray, " T"]
    held_before: Float[np.ndarray, " T"]
    held_after: Float[np.ndarray, " T"]


def recalibrate(
    variance: Float[np.ndarray, "W T"],
    squared_error: Float[np.ndarray, "W T"],
    own: Bool[np.ndarray, " W"],
    *,
    miss: float,
) -> Recalibration:
    """Fits on the windows `own` and tries on the others.

    Args:
        variance: predicted, mean over the pixels of a window; 0 or more.
        squared_error: of the mean prediction, over the same pixels; 0 or more.
        own: windows to fit on; those of a vehicle belong together (`every_second_vehicle`).
        miss: accepted probability of an error above the bound.

    Raises:
        ValueError: if all windows or none are to be fitted on.
    """
    if own.all() or not own.any():
        raise ValueError(
            f"{int(own.sum())} of {len(own)} windows to fit on; expected some, and others to try on"
        )
    factor = np.sqrt(squared_error[own].mean(0) / np.maximum(variance[own].mean(0), TINY))
    before = np.sqrt(variance[~own].mean(0) / np.maximum(squared_error[~own].mean(0), TINY))
    score = np.sqrt(squared_error / np.maximum(variance, TINY))  # multiples of the spread
    bound = np.asarray(conformal_quantile(score[own], miss=miss))
    return Recalibration(
        factor=factor,
        ratio_before=before,
        ratio_after=before * factor,
        bound=bound,
        held_before=(score[~own] <= 1.0).mean(0),
        held_after=(score[~own] <= bound).mean(0),
    )


def every_second_vehicle(cluster: Int[np.ndarray, " W"]) -> Bool[np.ndarray, " W"]:
    """Returns which windows belong to the first, third, ... of the vehicles `cluster`."""
    is_own: np.ndarray = np.unique(cluster, return_inverse=True)[1].ravel() % 2 == 0
    return is_own
