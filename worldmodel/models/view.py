"""Looking at a raster from elsewhere: differentiable resampling under a change of the viewer's pose or under a flow."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from worldmodel.scene import RasterSpec


def pixel_centres(spec: RasterSpec, like: Tensor) -> Float[Tensor, "H W 2"]:
    """Returns the metric position `x` ahead, `y` left of every pixel centre [m]."""
    rows = torch.arange(spec.height, device=like.device, dtype=like.dtype)
    cols = torch.arange(spec.width, device=like.device, dtype=like.dtype)
    x = (spec.height / 2 - 0.5 - rows) * spec.resolution
    y = (spec.width / 2 - 0.5 - cols) * spec.resolution
    return torch.stack(torch.meshgrid(x, y, indexing="ij"), dim=-1)


def sample_at(
    image: Float[Tensor, "B C H W"], points: Float[Tensor, "B H W 2"], spec: RasterSpec
) -> Float[Tensor, "B C H W"]:
    """Returns `image` read bilinearly at metric `points`; zero outside."""
    scale = points.new_tensor([-2.0 / (spec.height * spec.resolution), -2.0 / (spec.width * spec.resolution)])
    grid = (points * scale).flip(-1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def move_view(
    image: Float[Tensor, "B C H W"], pose: Float[Tensor, "B 3"], spec: RasterSpec
) -> Float[Tensor, "B C H W"]:
    """Returns the raster seen from `pose` `(x, y, heading)`, given in the frame of the viewer of `image`."""
    centres = pixel_centres(spec, image).unsqueeze(0)
    cos, sin = (part[:, None, None] for part in (pose[:, 2].cos(), pose[:, 2].sin()))
    x = pose[:, 0, None, None] + cos * centres[..., 0] - sin * centres[..., 1]
    y = pose[:, 1, None, None] + sin * centres[..., 0] + cos * centres[..., 1]
    return sample_at(image, torch.stack([x, y], dim=-1), spec)


def flow_warp(
    image: Float[Tensor, "B C H W"], flow: Float[Tensor, "B 2 H W"], spec: RasterSpec
) -> Float[Tensor, "B C H W"]:
    """Returns `image` moved by `flow` [m]: the content at a pixel came from `flow` behind it, `out(p) = image(p - flow(p))`."""
    return sample_at(image, pixel_centres(spec, image) - flow.movedim(1, -1), spec)
