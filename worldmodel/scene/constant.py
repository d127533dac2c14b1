"""Small constant tensors, built once for each type and device instead of at every call."""

from functools import cache

import torch
from torch import Tensor


def constant(values: tuple[object, ...], like: Tensor) -> Tensor:
    """Returns nested tuples of numbers as a tensor of `like`'s type and device; do not write to it."""
    return _constant(values, like.dtype, like.device)


@cache
def _constant(values: tuple[object, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    # Built in inference mode it could never take part in a gradient.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
