"""Which pixels are a car, and where that car was before: read off rasters, without anything learnt.

A car is what hangs together in a raster. Where it was in an older raster is found by the method of Lucas and
Kanade (1981), with one displacement for all of a car's pixels `p`. Linearised around a guess `d`,

    past(p + d + e) = newest(p),    e = (sum g g')^-1 sum g (newest(p) - past(p + d)),

where `g` is the gradient of the grey values, the mean of both rasters'. A few rounds of this, first on
blurred rasters, then on those as they are, place a car within a hundredth of a metre (`docs/log.md`). For the
older rasters the guess is where the car was at the velocity between the two oldest places known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from worldmodel.models.view import window_sum

OCCUPIED = 0.35
"""Grey value from which pixels that touch along or across the road belong to one car."""
LONGEST = 32
"""Pixels that a car may be long and wide together; what is longer counts as several [px]."""
BLURS = (5, 5, 1, 1)
"""Rows over which rasters are averaged in each round."""
FARTHEST = 2.0
"""Largest change of a displacement in one round [px]."""
STIFFNESS = 0.02
"""Added to the squared gradients: a car without any stays where it is guessed to be."""
MARGIN = 1
"""Pixels as close to the edge of a raster as this say nothing of what moves."""


@dataclass(frozen=True)
class Sites:
    """The pixels that belong to some car of a batch of rasters, and which car each belongs to.

    Attributes:
        scene, row, column: of each of the `P` pixels.
        car: its number among the `num_cars` of the batch.
    """

    scene: Int64[Tensor, " P"]
    row: Int64[Tensor, " P"]
    column: Int64[Tensor, " P"]
    car: Int64[Tensor, " P"]
    num_cars: int

    @classmethod
    def of(cls, label: Int64[Tensor, "B H W"]) -> "Sites":
        """Returns those of `label_cars`."""
        scene, row, column = label.nonzero(as_tuple=True)
        names, car = _unique_in_batch(label)[scene, row, column].unique(return_inverse=True)
        return cls(scene, row, column, car, len(names))

    def total(self, value: Float[Tensor, "P C"]) -> Float[Tensor, "N C"]:
        """Returns the sum over the pixels of each car."""
        return value.new_zeros(self.num_cars, value.shape[1]).index_add(0, self.car, value)


def label_cars(image: Float[Tensor, "B 1 H W"], *, margin: int = 2) -> Int64[Tensor, "B H W"]:
    """Returns for each pixel which car it belongs to: a number that no other car of that raster has, or 0.

    Args:
        image: grey values in [0, 1].
        margin: pixels around a car that belong to it as well, as far as they are nobody else's.
    """
    height, width = image.shape[-2:]
    occupied = (image > OCCUPIED).to(image.dtype)
    number = torch.arange(1, height * width + 1, dtype=image.dtype, device=image.device)
    label = number.view(1, 1, height, width) * occupied
    for _ in range(LONGEST):
        label = _largest_neighbour(label) * occupied
    for _ in range(margin):
        label = torch.where(label > 0, label, _largest_neighbour(label))
    return label.squeeze(1).long()


def mean_over_cars(
    field: Float[Tensor, "B C H W"], image: Float[Tensor, "B 1 H W"], label: Int64[Tensor, "B H W"]
) -> Float[Tensor, "B C H W"]:
    """Returns at each pixel of a car the mean of `field` over it, weighted by grey values; 0 elsewhere."""
    car = _unique_in_batch(label).flatten()
    weighted = torch.cat([field * image, image], dim=1).permute(0, 2, 3, 1).flatten(0, 2)
    num_labels = len(label) * (label[0].numel() + 1)
    total = weighted.new_zeros(num_labels, weighted.shape[1]).index_add(0, car, weighted)
    mean = total[:, :-1] / total[:, -1:].clamp_min(1e-3)
    found = mean.index_select(0, car).unflatten(0, tuple(label.shape)).permute(0, 3, 1, 2)
    return found * (label > 0).unsqueeze(1)


@torch.no_grad()
def track_cars(
    frames: Float[Tensor, "B N H W"], seconds: Sequence[float], label: Int64[Tensor, "B H W"]
) -> Float[Tensor, "B N1 2 H W"]:
    """Returns how far each car has come since each of the older rasters, at its pixels; 0 elsewhere.

    Args:
        frames: grey values in [0, 1], oldest first, all as seen from one frame of reference.
        seconds: how long ago each was; falling, the last is 0.
        label: the cars of the newest raster (`label_cars`).

    Returns:
        For each but the newest, oldest first: up and leftwards [px].
    """
    sites, newest = Sites.of(label), frames[:, -1]
    blurred = {rows: _with_gradient(newest, rows) for rows in set(BLURS)}
    ages, found = list(seconds[-2::-1]), list[Tensor]()
    for index, age in enumerate(ages):
        past = frames[:, -2 - index]
        came = _guess(found, [0.0, *ages[:index]], age, newest.new_zeros(sites.num_cars, 2))
        for rows in BLURS:
            now = _look_up(blurred[rows], sites, sites.row, sites.column)
            came = came + _correction(now, _with_gradient(past, rows), came, sites)
        found.append(came)
    back = newest.new_zeros(len(ages), 2, *newest.shape)  # (N - 1, 2, B, H, W)
    if sites.num_cars:
        moved = torch.stack(found[::-1])[:, sites.car].transpose(1, 2)
        back[:, :, sites.scene, sites.row, sites.column] = moved
    return back.permute(2, 0, 1, 3, 4)


def _guess(
    found: Sequence[Float[Tensor, "N 2"]], ages: Sequence[float], age: float, nil: Float[Tensor, "N 2"]
) -> Float[Tensor, "N 2"]:
    """Where cars were at `age`: as they moved between the two oldest places known."""
    if not found:
        return nil
    older, younger = found[-1], found[-2] if len(found) > 1 else nil
    return older + (older - younger) * ((age - ages[-1]) / (ages[-1] - ages[-2]))


def _correction(
    now: Float[Tensor, "P 3"],
    past: Float[Tensor, "B 3 H W"],
    came: Float[Tensor, "N 2"],
    sites: Sites,
) -> Float[Tensor, "N 2"]:
    """One round: what to add to the displacement of each car, down and rightwards in the past [px]."""
    height, width = past.shape[-2:]
    row, column = sites.row + came[sites.car, 0], sites.column + came[sites.car, 1]
    then = _look_up(past, sites, row, column)
    inside = (row > MARGIN) & (row < height - 1 - MARGIN) & (column > MARGIN) & (column < width - 1 - MARGIN)
    down, right = ((now + then)[:, 1:] / 2 * inside[:, None]).unbind(1)
    wrong = (now - then)[:, 0]
    products = torch.stack([down * down, right * right, down * right, down * wrong, right * wrong], dim=1)
    dd, rr, dr, dw, rw = sites.total(products).unbind(1)
    dd, rr = dd + STIFFNESS, rr + STIFFNESS
    solved = torch.stack([rr * dw - dr * rw, dd * rw - dr * dw], dim=1) / (dd * rr - dr * dr)[:, None]
    return solved.clamp(-FARTHEST, FARTHEST)


def _with_gradient(image: Float[Tensor, "B H W"], rows: int) -> Float[Tensor, "B 3 H W"]:
    """The image averaged over `rows`, and its slopes downwards and rightwards (central; 0 at the edges)."""
    smooth = window_sum(image, rows, dim=-2) / rows
    down = F.pad((smooth[:, 2:] - smooth[:, :-2]) / 2, (0, 0, 1, 1))
    right = F.pad((smooth[:, :, 2:] - smooth[:, :, :-2]) / 2, (1, 1))
    return torch.stack([smooth, down, right], dim=1)


def _look_up(image: Float[Tensor, "B C H W"], sites: Sites, row: Tensor, column: Tensor) -> Tensor:
    """Values (P, C) at fractional places, bilinear; zero outside."""
    channels, height, width = image.shape[1:]
    padded = F.pad(image, (1, 1, 1, 1)).permute(0, 2, 3, 1).reshape(-1, channels)
    row, column = (row + 1.0).clamp(0, height + 0.999), (column + 1.0).clamp(0, width + 0.999)
    top, left = row.floor(), column.floor()
    corner = (sites.scene * (height + 2) + top.long()) * (width + 2) + left.long()
    below, beside = (row - top)[:, None], (column - left)[:, None]
    upper = padded[corner] * (1 - beside) + padded[corner + 1] * beside
    lower = padded[corner + width + 2] * (1 - beside) + padded[corner + width + 3] * beside
    return upper * (1 - below) + lower * below


def _unique_in_batch(label: Int64[Tensor, "B H W"]) -> Int64[Tensor, "B H W"]:
    """Labels that differ from raster to raster, nobody's included."""
    scene = torch.arange(len(label), device=label.device)[:, None, None]
    return label + scene * (label[0].numel() + 1)


def _largest_neighbour(label: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
    """Returns the largest of each label and the four beside it."""
    above, below = F.pad(label[..., :-1, :], (0, 0, 1, 0)), F.pad(label[..., 1:, :], (0, 0, 0, 1))
    left, right = F.pad(label[..., :-1], (1, 0)), F.pad(label[..., 1:], (0, 1))
    return torch.stack([label, above, below, left, right]).amax(0)
