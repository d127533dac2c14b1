"""Costs `C(y, y')` between a frame and what a decoder says of it, with a weight for each pixel if need be."""

from collections.abc import Iterable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from worldmodel.nn.configured import Configured


def weighted_mean(value: Float[Tensor, "B C H W"], weight: Tensor | None) -> Float[Tensor, ""]:
    """Returns the mean, weighted by a map of the same shape or of one channel; zero where all weights are."""
    if weight is None:
        return value.mean()
    weight = weight.expand_as(value)
    return (weight * value).sum() / weight.sum().clamp_min(1e-8)


class FrameCost(Configured):
    """Decoder's outputs and frame -> scalar. A cost says how many outputs it reads and what they mean."""

    def outputs(self, channels: int) -> int:
        """Returns the decoder's channels for a frame of so many channels."""
        return channels

    def value(self, output: Float[Tensor, "B O H W"]) -> Float[Tensor, "B C H W"]:
        """Returns the frame that outputs stand for."""
        return output

    def forward(
        self, output: Float[Tensor, "B O H W"], target: Float[Tensor, "B C H W"], weight: Tensor | None = None
    ) -> Float[Tensor, ""]:
        """Returns the mean cost of a pixel; weights are `(B, C, H, W)` or `(B, 1, H, W)`."""
        raise NotImplementedError

    def refit(self, targets: Iterable[Float[Tensor, "B C H W"]]) -> None:
        """Measures what the cost has to know of all frames; most know nothing."""


class SquaredError(FrameCost):
    """`(y' - y)^2`: the best answer to several possible frames is their mean, which may be none of them."""

    def forward(
        self, output: Float[Tensor, "B C H W"], target: Float[Tensor, "B C H W"], weight: Tensor | None = None
    ) -> Float[Tensor, ""]:
        return weighted_mean((output - target).square(), weight)


class BinaryCrossEntropy(FrameCost):
    """`-y log s(y') - (1 - y) log(1 - s(y'))` of logits: for frames of occupied and free pixels."""

    def value(self, output: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return output.sigmoid()

    def forward(
        self, output: Float[Tensor, "B C H W"], target: Float[Tensor, "B C H W"], weight: Tensor | None = None
    ) -> Float[Tensor, ""]:
        entropy = F.binary_cross_entropy_with_logits(output, target, reduction="none")
        return weighted_mean(entropy, weight)
