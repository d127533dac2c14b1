"""Convolutional dictionaries: the transpose is one, the bound is above the gain and not far from it."""

import pytest
import torch

from worldmodel.nn.sparse_conv import conv_adjoint, conv_bound, conv_decode

CASES = [(1, 5, (1, 1), (2, 2)), (3, 6, (4, 2), (1, 2)), (2, 4, (4, 4), (0, 0))]

every = pytest.mark.parametrize(("channels", "side", "stride", "padding"), CASES)


@every
def test_the_adjoint_is_the_transpose(
    channels: int, side: int, stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    kernels = torch.randn(7, channels, side, side, dtype=torch.float64)
    code = torch.randn(2, 7, 6, 5, dtype=torch.float64)
    decoded = conv_decode(code, kernels, stride=stride, padding=padding)
    image = torch.randn_like(decoded)
    back = conv_adjoint(image, kernels, stride=stride, padding=padding)
    assert float((decoded * image).sum()) == pytest.approx(float((code * back).sum()))


@every
def test_the_bound_is_above_the_gain_and_not_far_from_it(
    channels: int, side: int, stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    kernels = torch.randn(7, channels, side, side, dtype=torch.float64)
    code = torch.randn(1, 7, 24, 24, dtype=torch.float64)
    for _ in range(200):  # power iteration
        decoded = conv_decode(code / code.norm(), kernels, stride=stride, padding=padding)
        code = conv_adjoint(decoded, kernels, stride=stride, padding=padding)
    gain, bound = float(code.norm()), float(conv_bound(kernels, stride=stride))
    assert 0.999 * gain < bound < 1.4 * gain
