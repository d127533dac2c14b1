"""Whitened patches of photographs that scikit-image and scikit-learn bring along: what V1 is said to see."""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from skimage import color, data
from sklearn.datasets import load_sample_images
from torch import Tensor

CUT_OFF = 0.8
"""Of the whitening filter, as a share of the highest frequency."""


@cache
def photographs() -> tuple[Float[np.ndarray, "_ _"], ...]:
    """Grey, each whitened by `f exp(-(f / cut-off)^4)` (Olshausen and Field 1997), of variance one."""
    coloured = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), *load_sample_images().images]
    grey = [color.rgb2gray(one) for one in coloured]
    grey += [one / 255 for one in (data.camera(), data.brick(), data.grass(), data.gravel())]
    return tuple(_whitened(one) for one in grey)


def patches(count: int, side: int, *, seed: int = 0) -> Float[Tensor, "B 1 H W"]:
    """Drawn from all photographs alike, at random places."""
    generator = np.random.default_rng(seed)
    found = []
    for chosen in generator.integers(len(photographs()), size=count):
        photo = photographs()[chosen]
        row, column = (generator.integers(4, size - side - 4) for size in photo.shape)
        found.append(photo[row : row + side, column : column + side])
    return torch.from_numpy(np.stack(found)[:, None].astype(np.float32))


def _whitened(photo: Float[np.ndarray, "_ _"]) -> Float[np.ndarray, "_ _"]:
    rows, columns = (np.fft.fftfreq(size) for size in photo.shape)
    frequency = np.hypot(rows[:, None], columns[None])
    filtered = np.fft.ifft2(
        np.fft.fft2(photo) * frequency * np.exp(-((frequency / (0.5 * CUT_OFF)) ** 4))
    ).real
    return filtered / filtered.std()
