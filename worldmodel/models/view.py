"""Looking at a raster from elsewhere: differentiable resampling under a pose or under a flow."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from worldmodel.scene import RasterSpec


def move_view(
    image: Float[Tensor, "B C H W"], pose: Float[Tensor, "B 3"], spec: RasterSpec
) -> Float[Tensor, "B C H W"]:
    """Returns the raster seen from `pose` `(x, y, heading)`, given in the frame of the viewer of `image`.

    Bilinear; zero where the old raster does not reach. A point `(u, v)` of the new view lies in the old one
    at `(x + cos u - sin v, y + sin u + cos v)`; `affine_grid` wants that in units of half the image, with
    columns and rows counted rightwards and downwards: `col = -y / aside`, `row = -x / ahead`.
    """
    ahead, aside = spec.length_ahead, spec.length_aside
    cos, sin = pose[:, 2].cos(), pose[:, 2].sin()
    col = torch.stack([cos, sin * (ahead / aside), -pose[:, 1] / aside], dim=-1)
    row = torch.stack([-sin * (aside / ahead), cos, -pose[:, 0] / ahead], dim=-1)
    grid = F.affine_grid(torch.stack([col, row], dim=1), list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def flow_warp(
    image: Float[Tensor, "B C H W"], flow: Float[Tensor, "B 2 H W"], spec: RasterSpec
) -> Float[Tensor, "B C H W"]:
    """Returns `image` moved by `flow`: `out(p) = image(p - flow(p))`.

    Args:
        flow: leftwards and ahead [m], in this order (that of the sampling grid).
    """
    height, width = image.shape[-2:]
    identity = torch.eye(2, 3, dtype=image.dtype, device=image.device).unsqueeze(0)
    grid = F.affine_grid(identity, [1, 1, height, width], align_corners=False)
    scale = flow.new_tensor([1 / spec.length_aside, 1 / spec.length_ahead])
    grid = torch.addcmul(grid, flow.permute(0, 2, 3, 1), scale)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
