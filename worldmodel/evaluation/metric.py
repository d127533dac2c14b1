"""Measures of driving: who was hit and where, how close it came, how smooth it was. Pure functions.

A box is `(x, y, heading, length, width)`; where `valid` is false a box is not there.
"""

from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from worldmodel.scene import boxes_overlap, gaps, relative_pose, shrink


class Side(IntEnum):
    """Side of the ego another vehicle touches."""

    NONE = 0
    FRONT = 1
    SIDE = 2
    REAR = 3


def first_hit(
    ego: Float[Tensor, "B 5"], others: Float[Tensor, "B V 5"], valid: Bool[Tensor, "B V"], *, margin: float
) -> tuple[Bool[Tensor, " B"], Int[Tensor, " B"]]:
    """Returns whether the ego overlaps anybody, and the column of the nearest it overlaps (0 where nobody).

    Args:
        margin: taken off every side of all boxes [m].
    """
    hit = boxes_overlap(shrink(ego, margin).unsqueeze(1), shrink(others, margin)) & valid
    if others.shape[1] == 0:
        return hit.any(1), torch.zeros(len(ego), dtype=torch.long)
    distance = (others[..., :2] - ego[:, None, :2]).norm(dim=-1)
    return hit.any(1), distance.masked_fill(~hit, torch.inf).argmin(1)


def contact_side(ego: Float[Tensor, "*B 5"], other: Float[Tensor, "*B 5"]) -> Int[Tensor, "*B"]:
    """Returns on which side of the ego the other box lies (`Side`), as seen from the ego's centre.

    The offset is measured in units of the distance at which the two would just touch: a box more ahead than
    aside is in front. So the answer does not depend on how deep the boxes overlap when a frame shows it
    first.
    """
    local = relative_pose(other, ego)
    touch = local[..., :2].abs() - gaps(ego, other)  # centre distances at contact, along and across
    along, across = (local[..., :2] / touch).unbind(-1)
    lengthwise = torch.where(along > 0, int(Side.FRONT), int(Side.REAR))
    return torch.where(along.abs() >= across.abs(), lengthwise, int(Side.SIDE))


def time_to_collision(
    ego: Float[Tensor, "B 5"],
    speed: Float[Tensor, " B"],
    others: Float[Tensor, "B V 5"],
    *,
    other_speed: Float[Tensor, "B V"],
    valid: Bool[Tensor, "B V"],
) -> Float[Tensor, " B"]:
    """Returns the time until the ego would touch whoever is ahead of it, both keeping their speeds [s].

    Only vehicles ahead whose projection across the ego's heading overlaps the ego's count. Infinite where the
    ego does not close in on anybody, zero at contact.
    """
    along, across = gaps(ego.unsqueeze(1), others).unbind(-1)
    local = relative_pose(others, ego.unsqueeze(1))
    closing = speed.unsqueeze(1) - other_speed * local[..., 2].cos()
    is_ahead = valid & (local[..., 0] > 0) & (across < 0) & (closing > 0)
    time = along.clamp(min=0) / closing.clamp(min=1e-9)
    return (
        torch.where(is_ahead, time, torch.inf).amin(1)
        if others.shape[1]
        else torch.full_like(speed, torch.inf)
    )


def mean_jerk(accel: Float[Tensor, "*B T"], dt: float) -> Float[Tensor, "*B"]:
    """Returns the mean absolute change of acceleration per second [m/s^3]; zero for a single action."""
    change = accel.diff(dim=-1).abs() / dt
    return change.sum(-1) / max(change.shape[-1], 1)
