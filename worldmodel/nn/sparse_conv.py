"""Convolutional dictionaries: `Y = sum_k W_k * Z_k`, its transpose, and a bound of its gain.

Kernels are `(Z, C, K, L)`. With a stride, a cell of the code lies at every `stride`-th pixel.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Two = tuple[int, int]


def conv_decode(
    code: Float[Tensor, "B Z H W"], kernels: Float[Tensor, "Z C K L"], *, stride: Two, padding: Two
) -> Float[Tensor, "B C H2 W2"]:
    """Returns every cell's kernels laid over each other, `padding` pixels cut off on each side."""
    return F.conv_transpose2d(code, kernels, stride=stride, padding=padding)


def conv_adjoint(
    image: Float[Tensor, "B C H W"], kernels: Float[Tensor, "Z C K L"], *, stride: Two, padding: Two
) -> Float[Tensor, "B Z H2 W2"]:
    """Returns the transpose of `conv_decode`: how much of each kernel is at each cell."""
    return F.conv2d(image, kernels, stride=stride, padding=padding)


def conv_bound(kernels: Float[Tensor, "Z C K L"], *, stride: Two) -> Float[Tensor, ""]:
    """Returns at least the greatest `|conv_decode(z)|^2` of codes of norm one, on frames of any size.

    The pixels of a cell become channels, so that the stride is one. Then the map is a matrix at each
    frequency (`2 - 2 cos` and the like, of the order of the kernel), whose greatest norm is looked for on a
    grid of eight times that order; between two points it is greater by a factor `1 / cos(pi / 8)` an axis at
    most (Bernstein's inequality).
    """
    kernels = kernels.detach()
    rows, columns = (-(-size // step) for size, step in zip(kernels.shape[2:], stride, strict=True))
    missing = (0, columns * stride[1] - kernels.shape[3], 0, rows * stride[0] - kernels.shape[2])
    cells = F.pad(kernels, missing).unflatten(3, (columns, stride[1])).unflatten(2, (rows, stride[0]))
    phases = cells.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)  # (Z, C stride stride, rows, columns)
    spectrum = torch.fft.rfft2(phases, s=(max(8 * (rows - 1), 1), max(8 * (columns - 1), 1)))
    matrix = spectrum.permute(2, 3, 0, 1)  # (frequency, frequency, Z, D)
    gram = matrix.mH @ matrix if matrix.shape[3] < matrix.shape[2] else matrix @ matrix.mH
    slack = math.cos(math.pi / 8) ** -((rows > 1) + (columns > 1))
    return slack * torch.linalg.eigvalsh(gram).max()
