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


def _masked_mean(value: Float[Tensor, "B T 1 H W"], covered: Bool[Tensor, "B T H"]) -> Float[Tensor, ""]:
    mask = covered[:, :, None, :, None].to(value.dtype)
    return (value * mask).sum() / (mask.sum() * value.shape[-1]).clamp_min(1.0)
