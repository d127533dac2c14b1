"""Oriented boxes: overlap by separating axes in closed form, and the gaps between them.

A box is `(x, y, heading, length, width)`. All functions broadcast over leading dimensions. Pure torch.
"""

from jaxtyping import Bool, Float
from torch import Tensor, broadcast_tensors, stack

from worldmodel.scene.kinematics import relative_pose


def boxes_overlap(a: Float[Tensor, "*#B 5"], b: Float[Tensor, "*#B 5"]) -> Bool[Tensor, "*B"]:
    """Returns whether boxes `a` and `b` share an area; boxes that merely touch do not.

    Two rectangles are apart iff one of their four edge normals separates them: with `C = |cos d|`, `Q = |sin
    d|` of the heading difference, they overlap iff the centre distance along each axis of either box is below
    `l1 + l2 C + w2 Q` (along), `w1 + w2 C + l2 Q` (across), half lengths and widths.
    """
    a, b = broadcast_tensors(a, b)
    delta = a[..., 2] - b[..., 2]
    cos, sin = delta.cos().abs(), delta.sin().abs()
    la, wa, lb, wb = a[..., 3] / 2, a[..., 4] / 2, b[..., 3] / 2, b[..., 4] / 2
    b_in_a, a_in_b = relative_pose(b, a), relative_pose(a, b)
    return (
        (b_in_a[..., 0].abs() < la + lb * cos + wb * sin)
        & (b_in_a[..., 1].abs() < wa + wb * cos + lb * sin)
        & (a_in_b[..., 0].abs() < lb + la * cos + wa * sin)
        & (a_in_b[..., 1].abs() < wb + wa * cos + la * sin)
    )


def gaps(ego: Float[Tensor, "*#B 5"], others: Float[Tensor, "*#B 5"]) -> Float[Tensor, "*B 2"]:
    """Returns the bumper-to-bumper distance along the ego's heading and the free distance across it [m].

    Both are negative by the depth of the overlap of the projections on that axis; the boxes' projections are
    exact for any relative heading. The sign of the position (ahead, left) is that of `relative_pose`.
    """
    ego, others = broadcast_tensors(ego, others)
    local = relative_pose(others, ego)
    cos, sin = local[..., 2].cos().abs(), local[..., 2].sin().abs()
    length, width = others[..., 3] / 2, others[..., 4] / 2
    along = local[..., 0].abs() - (ego[..., 3] / 2 + length * cos + width * sin)
    across = local[..., 1].abs() - (ego[..., 4] / 2 + width * cos + length * sin)
    return stack([along, across], dim=-1)


def shrink(boxes: Float[Tensor, "*B 5"], margin: float) -> Float[Tensor, "*B 5"]:
    """Returns the boxes with `margin` [m] taken off every side."""
    return boxes - boxes.new_tensor([0.0, 0.0, 0.0, 2 * margin, 2 * margin])
