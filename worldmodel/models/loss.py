"""Losses of the forward model: pure functions of logits, targets and the mask of recorded road.

Masked means divide by `count_fn(covered pixels)`. Processes that train together and average their gradients
pass the mean of that count over all of them: then the average is the mean over what all of them cover.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

CountFn: TypeAlias = Callable[[Tensor], Tensor]


def own_count(count: Tensor) -> Tensor:
    """Returns the count itself, as a single process divides by it."""
    return count


def masked_mse(
    logits: Float[Tensor, "B T 1 H W"],
    target: Float[Tensor, "B T 1 H W"],
    covered: Bool[Tensor, "B T H"],
    *,
    count_fn: CountFn = own_count,
) -> Float[Tensor, ""]:
    """Returns the mean squared error of `sigmoid(logits)` over the covered rows."""
    return _masked_mean((logits.sigmoid() - target).square(), covered, count_fn)


def masked_bce(
    logits: Float[Tensor, "B T 1 H W"],
    target: Float[Tensor, "B T 1 H W"],
    covered: Bool[Tensor, "B T H"],
    *,
    count_fn: CountFn = own_count,
) -> Float[Tensor, ""]:
    """Returns the mean binary cross-entropy over the covered rows; grey values are probabilities."""
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return _masked_mean(entropy, covered, count_fn)


def soft_overlap_loss(
    logits: Float[Tensor, "B T 1 H W"], target: Float[Tensor, "B T 1 H W"], covered: Bool[Tensor, "B T H"]
) -> Float[Tensor, ""]:
    """Returns `1 - (sum p q + 1) / (sum p + q - p q + 1)` over covered rows, averaged over frames.

    One minus the intersection over union of grey values. Unlike a mean over pixels it asks *where* the cars
    are, not how sure one may be of each pixel: the blur that squared error prefers costs most of the overlap.
    """
    mask = covered[:, :, None, :, None].to(logits.dtype)
    p, q = logits.sigmoid() * mask, target * mask
    both = (p * q).sum((-3, -2, -1))
    either = (p + q).sum((-3, -2, -1)) - both
    return (1 - (both + 1) / (either + 1)).mean()


def occupancy_loss(
    logits: Float[Tensor, "B T 1 H W"],
    target: Float[Tensor, "B T 1 H W"],
    covered: Bool[Tensor, "B T H"],
    *,
    overlap: float = 0.3,
    count_fn: CountFn = own_count,
) -> Float[Tensor, ""]:
    """Returns `masked_bce + overlap * soft_overlap_loss`: calibrated pixels, but whole cars."""
    entropy = masked_bce(logits, target, covered, count_fn=count_fn)
    return entropy + overlap * soft_overlap_loss(logits, target, covered)


def _masked_mean(
    value: Float[Tensor, "B T 1 H W"], covered: Bool[Tensor, "B T H"], count_fn: CountFn
) -> Float[Tensor, ""]:
    mask = covered[:, :, None, :, None].to(value.dtype)
    return (value * mask).sum() / count_fn(mask.sum() * value.shape[-1]).clamp_min(1.0)
