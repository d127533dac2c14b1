"""Learnt filters as a picture: each on its own scale, grey where it is zero."""

import math

import cv2
import numpy as np
from jaxtyping import Float

from worldmodel.viz.layout import Picture, grid


def filter_grid(
    filters: Float[np.ndarray, "K H W"], *, columns: int | None = None, scale: int = 4
) -> Picture:
    """Returns filters in rows, as many as make a square when `columns` is left out.

    Args:
        scale: screen pixels for a pixel of a filter.
    """
    columns = math.ceil(math.sqrt(len(filters))) if columns is None else columns
    painted = [_paint(one, scale) for one in filters]
    return grid([painted[start : start + columns] for start in range(0, len(painted), columns)])


def _paint(values: Float[np.ndarray, "H W"], scale: int) -> Picture:
    share = 0.5 + 0.5 * values / max(float(np.abs(values).max()), 1e-12)
    grey = cv2.resize(
        (255 * share).round().astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST
    )
    return np.repeat(grey[..., None], 3, axis=2)
