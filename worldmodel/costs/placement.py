"""Points fixed to the ego, and where they are once the ego is at a pose. Knows no image and no road."""

from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

CORNERS = ((1.0, 1.0), (1.0, -1.0), (-1.0, -1.0), (-1.0, 1.0), (0.0, 0.0))
"""The corners of the unit box and its centre, in half lengths and half widths."""


def place(
    units: Float[Tensor, "P 2"], pose: Float[Tensor, "*B S"], scale: Float[Tensor, "*#B 2"]
) -> Float[Tensor, "*B P 2"]:
    """Returns where points fixed to a vehicle are when it is at `pose` [m].

    One matrix product for all points and poses: a planner spends its time here.

    Args:
        units: the points, along and across the vehicle.
        pose: `x, y, heading, ...` of the vehicle.
        scale: what 1 stands for, along and across [m].
    """
    along, across = scale[..., 0], scale[..., 1]
    cos, sin = pose[..., 2].cos(), pose[..., 2].sin()
    entries = [cos * along, -sin * across, pose[..., 0], sin * along, cos * across, pose[..., 1]]
    rows = torch.stack(entries, dim=-1).unflatten(-1, (2, 3))
    homogeneous = torch.cat([units, torch.ones_like(units[:, :1])], dim=-1)
    placed: Tensor = (rows.flatten(0, -2) @ homogeneous.T).unflatten(0, rows.shape[:-1])  # (B, 2, P)
    return placed.transpose(-1, -2)


def cells(num: int) -> tuple[float, ...]:
    """Returns the middles of `num` equal parts of [0, 1]."""
    return tuple((i + 0.5) / num for i in range(num))


def unit_grid(along: tuple[float, ...], across: tuple[float, ...]) -> tuple[tuple[float, float], ...]:
    """Returns the points of a grid, `across` running fastest."""
    return tuple(product(along, across))
