"""Losses of the forward model: pure functions of logits, targets and the mask of recorded road."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def masked_mse(
    logits: Float[Tensor, "B T 1 H W"], target: Float[Tensor, "B T 1 H W"], covered: Bool[Tensor, "B T H"]
) -> Float[Tensor, ""]:
    """Returns the mean squared error of `sigmoid(logits)` over the covered rows."""
    return _masked_mean((logits.sigmoid() - target).square(), covered)


def masked_bce(
    logits: Float[Tensor, "B T 1 H W"], target: Float[Tensor, "B T 1 H W"], covered: Bool[Tensor, "B T H"]
) -> Float[Tensor, ""]:
    """Returns the mean binary cross-entropy over the covered rows; grey values are probabilities."""
    return _masked_mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), covered)


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
) -> Float[Tensor, ""]:
    """Returns `masked_bce + overlap * soft_overlap_loss`: calibrated pixels, but whole cars."""
    return masked_bce(logits, target, covered) + overlap * soft_overlap_loss(logits, target, covered)


def _masked_mean(value: Float[Tensor, "B T 1 H W"], covered: Bool[Tensor, "B T H"]) -> Float[Tensor, ""]:
    mask = covered[:, :, None, :, None].to(value.dtype)
    return (value * mask).sum() / (mask.sum() * value.shape[-1]).clamp_min(1.0)
