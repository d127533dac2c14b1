"""Points fixed to the ego, and where they are once the ego is at a pose. Knows no image and no road."""

from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.scene.constant import constant

CORNERS = ((1.0, 1.0), (1.0, -1.0), (-1.0, -1.0), (-1.0, 1.0), (0.0, 0.0))
"""The corners of the unit box and its centre, in half lengths and half widths."""
# From (cos, sin, x, y) to the rows of a matrix that takes (along, across) to (x, y), and what it adds.
_ROTATION = ((1.0, 0.0, 0.0, 1.0), (0.0, 1.0, -1.0, 0.0))


def place(points: Float[Tensor, "*#B P 2"], pose: Float[Tensor, "*B S"]) -> Float[Tensor, "*B P 2"]:
    """Returns where points fixed to a vehicle are when it is at `pose` [m].

    One matrix product for all points and poses: a planner spends its time here.

    Args:
        points: along and across the vehicle [m].
        pose: `x, y, heading, ...` of the vehicle.
    """
    position, heading = pose[..., :2], pose[..., 2:3]
    direction = torch.cat([heading.cos(), heading.sin()], dim=-1)
    rotation = (direction @ constant(_ROTATION, pose)).reshape(-1, 2, 2)
    points = points.expand(*pose.shape[:-1], *points.shape[-2:])
    placed = torch.baddbmm(position.reshape(-1, 1, 2), points.flatten(0, -3), rotation)
    return placed.view(points.shape)


def cells(num: int) -> tuple[float, ...]:
    """Returns the middles of `num` equal parts of [0, 1]."""
    return tuple((i + 0.5) / num for i in range(num))


def unit_grid(along: tuple[float, ...], across: tuple[float, ...]) -> tuple[tuple[float, float], ...]:
    """Returns the points of a grid, `across` running fastest."""
    return tuple(product(along, across))
