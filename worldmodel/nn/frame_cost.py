"""Costs `C(y, y')` between a frame and what a decoder says of it, with a weight for each pixel if need be."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
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


class GradientDifference(FrameCost):
    """A cost, and `weight * ||dy'| - |dy||` of neighbouring pixels (Mathieu et al. 2016, equation 6).

    A blurred frame has small differences everywhere, which the cost alone does not mind.

    Args:
        base: the cost; None: squared error.
        weight: of the differences.
    """

    def __init__(self, base: FrameCost | None = None, *, weight: float = 1.0) -> None:
        super().__init__()
        self.base, self.weight = SquaredError() if base is None else base, weight

    def outputs(self, channels: int) -> int:
        return self.base.outputs(channels)

    def value(self, output: Float[Tensor, "B O H W"]) -> Float[Tensor, "B C H W"]:
        return self.base.value(output)

    def forward(
        self, output: Float[Tensor, "B O H W"], target: Float[Tensor, "B C H W"], weight: Tensor | None = None
    ) -> Float[Tensor, ""]:
        frame = self.value(output)
        differences = torch.stack(
            [
                weighted_mean(
                    (frame.diff(dim=dim).abs() - target.diff(dim=dim).abs()).abs(),
                    None if weight is None else weight.narrow(dim, 1, weight.shape[dim] - 1),
                )
                for dim in (-2, -1)
            ]
        )
        return self.base(output, target, weight) + self.weight * differences.sum()


class LaplacianPyramid(FrameCost):
    """`sum_j 4^j |L_j(y') - L_j(y)|_1` over the bands of a pyramid (Bojanowski et al. 2018).

    Divided by the pixels of the frame, that is the mean of each band. Mathieu et al. 2016 ask for several
    scales, too: what is right at a coarse one is not lost where details are wrong.

    Args:
        num_levels: bands; the last is what is left, blurred.
    """

    def __init__(self, *, num_levels: int = 3) -> None:
        super().__init__()
        self.num_levels = num_levels

    def forward(
        self, output: Float[Tensor, "B O H W"], target: Float[Tensor, "B C H W"], weight: Tensor | None = None
    ) -> Float[Tensor, ""]:
        bands = self.bands(output - target)  # linear in the frame
        weights = [None if weight is None else _pooled(weight, band) for band in bands]
        means = [weighted_mean(band.abs(), one) for band, one in zip(bands, weights, strict=True)]
        return torch.stack(means).sum()

    def bands(self, frame: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B C H2 W2"]]:
        """Returns what each scale adds to the next coarser one; upsampled, they sum to the frame."""
        found = []
        for _ in range(self.num_levels - 1):
            coarse = F.avg_pool2d(frame, 2, ceil_mode=True)
            found.append(frame - F.interpolate(coarse, size=frame.shape[-2:], mode="bilinear"))
            frame = coarse
        return [*found, frame]


def _pooled(weight: Float[Tensor, "B C H W"], band: Tensor) -> Float[Tensor, "B C H2 W2"]:
    return F.adaptive_avg_pool2d(weight, (band.shape[-2], band.shape[-1]))


class QuantisedCrossEntropy(FrameCost):
    """Each pixel's channels, together, as one of the points of a grid: `-w(k) log p(k)` of the nearest one.

    Unlike squared error it can say that a pixel is red or blue but not purple. Where most pixels are grey it
    says so, and the rare ones have to be given weight (Zhang et al. 2016, equation 4):
    `w = 1 / ((1 - r) p + r / Q)`, of mean one. `refit` measures how common each of the `Q` points is.

    Args:
        num_levels: of each channel.
        low: least value of a channel.
        high: greatest.
        channels: of the frame.
        rebalance: r: 1 counts all pixels alike, 0 all points.
        temperature: of the distribution whose mean is the value; towards 0: its mode.
    """

    prior: Tensor
    points: Tensor

    def __init__(
        self,
        *,
        num_levels: int = 3,
        low: float = 0.0,
        high: float = 1.0,
        channels: int = 1,
        rebalance: float = 0.5,
        temperature: float = 0.38,
    ) -> None:
        super().__init__()
        self.num_levels, self.rebalance, self.temperature = num_levels, rebalance, temperature
        level = torch.linspace(low, high, num_levels)  # points are in the order of its product
        points = torch.cartesian_prod(*[level] * channels).reshape(-1, channels)
        self.register_buffer("points", points)  # (Q, C)
        self.register_buffer("prior", torch.full((len(points),), 1 / len(points)))

    def outputs(self, channels: int) -> int:
        if channels != self.points.shape[1]:
            raise ValueError(f"a frame of {channels} channels, expected {self.points.shape[1]}: set channels")
        return len(self.points)

    def value(self, output: Float[Tensor, "B O H W"]) -> Float[Tensor, "B C H W"]:
        return torch.einsum("bqhw,qc->bchw", (output / self.temperature).softmax(1), self.points)

    def nearest(self, target: Float[Tensor, "B C H W"]) -> Int[Tensor, "B H W"]:
        """Returns the index of the point nearest to each pixel."""
        low, high = self.points[0, :, None, None], self.points[-1, :, None, None]
        last = self.num_levels - 1
        level = ((target - low) / (high - low) * last).round().clamp(0, last).long()
        place = self.num_levels ** torch.arange(target.shape[1] - 1, -1, -1, device=target.device)
        return (level * place[:, None, None]).sum(1)

    def weights(self) -> Float[Tensor, " Q"]:
        """Returns what a pixel of each point counts; its mean over pixels is one."""
        rare = 1 / ((1 - self.rebalance) * self.prior + self.rebalance / len(self.prior))
        return rare / (rare * self.prior).sum()

    def forward(
        self, output: Float[Tensor, "B O H W"], target: Float[Tensor, "B C H W"], weight: Tensor | None = None
    ) -> Float[Tensor, ""]:
        index = self.nearest(target)
        entropy = F.cross_entropy(output, index, reduction="none") * self.weights()[index]
        return weighted_mean(entropy[:, None], weight)

    @torch.no_grad()
    def refit(self, targets: Iterable[Float[Tensor, "B C H W"]]) -> None:
        count = torch.zeros_like(self.prior)
        for target in targets:
            count += torch.bincount(self.nearest(target).flatten(), minlength=len(count)).to(count)
        self.prior.copy_(count / count.sum())
