"""Looking at a raster from elsewhere, or later: differentiable resampling under a pose or a motion field."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from worldmodel.scene import RasterSpec, relative_pose
from worldmodel.types import Obs

EMPTY = 0.02
"""Grey values up to this are nobody."""
CAR = (5.5, 1.8)
"""Length and width over which `pool_over_cars` averages [m]."""


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


def align(
    image: Float[Tensor, "B K C H W"],
    state: Float[Tensor, "B K 4"],
    ago: Float[Tensor, " K"],
    *,
    spec: RasterSpec,
) -> Float[Tensor, "B K C H W"]:
    """Returns past frames as seen from the co-moving frame of the newest, which is left untouched.

    Args:
        image: oldest first.
        state: of the viewer in each.
        ago: how long ago each was [s]; the last is 0.
        spec: of the rasters.
    """
    newest = state[:, -1:]
    travelled = newest[..., 3] * ago[:-1]
    views = torch.stack(
        [
            newest[..., 0] - travelled * newest[..., 2].cos(),
            newest[..., 1] - travelled * newest[..., 2].sin(),
            newest[..., 2].expand_as(travelled),
        ],
        dim=-1,
    )
    pose = relative_pose(views, state[:, :-1]).to(image.dtype)
    past = move_view(image[:, :-1].flatten(0, 1), pose.flatten(0, 1), spec)
    return torch.cat([past.unflatten(0, pose.shape[:2]), image[:, -1:]], dim=1)


def carry(
    image: Float[Tensor, "B 1 H W"],
    start: Float[Tensor, "B S 2 H W"],
    velocity: Float[Tensor, "B S 2 H W"],
    *,
    seconds: Float[Tensor, " F"],
    spec: RasterSpec,
) -> Float[Tensor, "B S F H W"]:
    """Returns the image with every pixel moved to where its own motion takes it (a forward warp).

    The grey value of a pixel at `p` is laid down at `p + start + seconds * velocity`, shared out bilinearly
    to the four pixels there; what arrives in a pixel adds up, to at most 1, and what leaves the raster is
    lost. A car stays sharp however far it goes, since it is moved as a whole by what is known where it *was*;
    a backward warp has to guess at its goal what will arrive there.

    Only pixels above `EMPTY` are moved, which are few: that is what makes it cheap.

    Args:
        image: in [0, 1].
        start: displacement at the start of each of `S` steps, ahead and leftwards [m].
        velocity: during each step, ahead and leftwards [m/s].
        seconds: since the start of a step, for each of its frames.
        spec: of the raster.
    """
    batch, steps, height, width = *start.shape[:2], *image.shape[-2:]
    pixels = (image.flatten() > EMPTY).nonzero().squeeze(1)
    scene, place = pixels // (height * width), pixels % (height * width)

    def at_pixels(field: Tensor) -> Float[Tensor, "P S 2"]:
        flat = field.permute(0, 3, 4, 1, 2).reshape(-1, steps * 2)
        return flat.index_select(0, pixels).unflatten(1, (steps, 2))

    moved = at_pixels(start)[:, :, None] + seconds[:, None] * at_pixels(velocity)[:, :, None]  # (P, S, F, 2)
    moved = (moved / spec.resolution).flatten(1, 2)
    # A border of one pixel takes what falls outside, a second one the upper neighbours of that.
    row = ((place // width)[:, None] - moved[..., 0]).clamp(-1, height) + 1
    col = ((place % width)[:, None] - moved[..., 1]).clamp(-1, width) + 1
    top, left = row.detach().floor(), col.detach().floor()
    down, right = row - top, col - left
    tall, wide, frames = height + 3, width + 3, moved.shape[1]
    frame = scene[:, None] * frames + torch.arange(frames, device=image.device)
    corner = (frame * tall + top.long()) * wide + left.long()
    mass = image.flatten().index_select(0, pixels)[:, None]
    upper, lower = (1 - down) * mass, down * mass
    share = torch.cat([upper * (1 - right), upper * right, lower * (1 - right), lower * right])
    index = torch.cat([corner, corner + 1, corner + wide, corner + wide + 1])
    laid = image.new_zeros(batch * frames * tall * wide).index_add(0, index.flatten(), share.flatten())
    laid = laid.view(batch, steps, -1, tall, wide)[..., 1 : height + 1, 1 : width + 1]
    return laid.clamp(max=1.0)


def look_up(
    image: Float[Tensor, "B C H W"], displacement: Float[Tensor, "B 2 H W"], spec: RasterSpec
) -> Float[Tensor, "B C H W"]:
    """Returns what an image holds where each pixel is expected to have moved to (a backward warp).

    Where everything went as expected, the result is the image that the motion started from.

    Args:
        image: bilinear between its pixels, zero outside.
        displacement: ahead and leftwards [m].
        spec: of the raster.
    """
    height, width = image.shape[-2:]
    moved = displacement / spec.resolution
    row = torch.arange(height, dtype=image.dtype, device=image.device)[:, None] - moved[:, 0]
    col = torch.arange(width, dtype=image.dtype, device=image.device) - moved[:, 1]
    grid = torch.stack([(2 * col + 1) / width - 1, (2 * row + 1) / height - 1], dim=-1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def pool_over_cars(
    field: Float[Tensor, "B C H W"], image: Float[Tensor, "B 1 H W"], spec: RasterSpec
) -> Float[Tensor, "B C H W"]:
    """Returns the mean of a field over what is occupied within about a car's size of each pixel.

    Carried along by a pooled motion, the pixels of a car keep together: without it a motion that grows by a
    metre along a car tears it into stripes.
    """
    rows, columns = (_odd(size / spec.resolution) for size in CAR)
    weighted = torch.cat([field * image, image], dim=1)
    summed = window_sum(window_sum(weighted, rows, dim=-2), columns, dim=-1)
    return summed[:, :-1] / summed[:, -1:].clamp_min(1e-6 * rows * columns)


def window_sum(field: Tensor, size: int, *, dim: int) -> Tensor:
    """Returns the sum over the `size` (odd) elements around each element along `dim`; zero beyond the ends.

    Windows of 1, 2, 4, ... elements each come from two of half the size: `2 log2(size)` additions at most,
    where `avg_pool2d` takes `size`, one element at a time. No differences, so no cancellation.
    """
    num = field.shape[dim]
    power = F.pad(field, [0, 0] * (-dim - 1) + [size // 2, size // 2])
    total, covered, width = torch.zeros_like(field), 0, 1
    while width <= size:
        if size & width:
            total = total + power.narrow(dim, covered, num)
            covered += width
        pairs = power.shape[dim] - width
        if covered < size:
            power = power.narrow(dim, 0, pairs) + power.narrow(dim, width, pairs)
        width *= 2
    return total


def check_images(obs: Obs, history: int, spec: RasterSpec) -> None:
    """Raises ValueError where a model that reads `history` frames drawn by `spec` cannot read `obs`."""
    got = tuple(obs.image.shape[1:])
    expected = (history, len(spec.channels), spec.height, spec.width)
    if got != expected:
        raise ValueError(
            f"observation images have (K, C, H, W) = {got}, this model reads {expected}; "
            "draw them with the model's own `spec` and `history`"
        )


def _odd(size: float) -> int:
    """The odd number nearest to `size`."""
    return 2 * round((size - 1) / 2) + 1
