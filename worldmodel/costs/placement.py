"""Points fixed to the ego, and where they are once the ego is at a pose. Knows no image and no road."""

from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

CORNERS = ((1.0, 1.0), (1.0, -1.0), (-1.0, -1.0), (-1.0, 1.0), (0.0, 0.0))
"""The corners of the unit box and its centre, in half lengths and half widths."""


def grid_points(along: Float[Tensor, " D"], across: Float[Tensor, " L"]) -> Float[Tensor, "D*L 2"]:
    """Returns the points of the grid `along` x `across`, the latter running fastest."""
    return torch.cartesian_prod(along, across)


def place(points: Float[Tensor, "P 2"], pose: Float[Tensor, "*B S"]) -> Float[Tensor, "*B P 2"]:
    """Returns where `points`, given relative to a pose `(x, y, heading, ...)`, are when it is `pose` [m].

    One matrix product for all points and poses: this is what a planner spends its time on.
    """
    x, y, heading = pose[..., 0], pose[..., 1], pose[..., 2]
    cos, sin = heading.cos(), heading.sin()
    rows = torch.stack([cos, -sin, x, sin, cos, y], dim=-1).unflatten(-1, (2, 3))
    homogeneous = torch.cat([points, torch.ones_like(points[:, :1])], dim=-1)
    placed: Tensor = (rows.flatten(0, -2) @ homogeneous.T).unflatten(0, rows.shape[:-1])  # (B, 2, P)
    return placed.transpose(-1, -2)


def place_box(
    units: Float[Tensor, "P 2"], pose: Float[Tensor, "B T S"], size: Float[Tensor, "B 2"]
) -> Float[Tensor, "B T P 2"]:
    """Returns where points of the unit box are on a box of `size` (length, width) at `pose` [m]."""
    half = size[:, None] / 2 * units  # (B, P, 2)
    cos, sin = pose[..., 2, None].cos(), pose[..., 2, None].sin()  # (B, T, 1)
    along, across = half[:, None, :, 0], half[:, None, :, 1]  # (B, 1, P)
    return torch.stack(
        [
            pose[..., 0, None] + cos * along - sin * across,
            pose[..., 1, None] + sin * along + cos * across,
        ],
        dim=-1,
    )


def unit_grid(num_along: int, num_across: int) -> tuple[tuple[float, float], ...]:
    """Returns points spread evenly over the unit box, each standing for an equal share of it."""
    along = [(2 * i + 1) / num_along - 1 for i in range(num_along)]
    across = [(2 * i + 1) / num_across - 1 for i in range(num_across)]
    return tuple(product(along, across))
