"""What learnt filters are like, in numbers instead of by eye; filters are `(K, H, W)`."""

import torch
from jaxtyping import Float
from torch import Tensor

FINE = 4
"""Filters are padded with zeros to so many times their size before their spectrum is taken."""


def orientation(filters: Float[Tensor, "K H W"]) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"]]:
    """Returns how selective filters are for the orientation of what they see, and for which.

    With `P(k)` the power at wave vector `k` and `theta` its angle, `m = sum P e^(2 i theta) / sum P`: the
    index is `|m|`, 1 for a grating and 0 for a blob; the orientation `arg m / 2` [rad] is the wave vector's.
    """
    height, width = filters.shape[1:]
    centred = filters - filters.mean((1, 2), keepdim=True)
    power = torch.fft.fft2(centred, s=(FINE * height, FINE * width)).abs().square()
    rows = torch.fft.fftfreq(FINE * height, dtype=filters.dtype)
    columns = torch.fft.fftfreq(FINE * width, dtype=filters.dtype)
    angle = torch.atan2(rows[:, None], columns[None])
    mean = (power * torch.polar(torch.ones_like(angle), 2 * angle)).sum((1, 2)) / power.sum((1, 2))
    return mean.abs(), mean.angle() / 2


def participation(filters: Float[Tensor, "K H W"]) -> Float[Tensor, " K"]:
    """Returns over which share of its pixels each filter is spread: `(sum w^2)^2 / (pixels sum w^4)`."""
    squares = filters.flatten(1).square()
    return squares.sum(1).square() / (squares.square().sum(1) * squares.shape[1])


def neighbour_alignment(angle: Float[Tensor, "H W"]) -> Float[Tensor, ""]:
    """Returns the mean `cos 2 (theta - theta')` of neighbours on a torus: 1 if all agree, 0 by chance."""
    return torch.stack([(2 * (angle - angle.roll(1, axis))).cos().mean() for axis in (0, 1)]).mean()
