"""Keeping clear of other vehicles, read from the predicted vehicle channel at the ego's pose.

The raster is looked at along rays fixed to the ego: ahead, behind and aside. Occupancy is rendered along a
ray like a density, which gives the distance to the *first* vehicle, in expectation:

    absorbed(d) = 1 - exp(-density * integral of occupancy up to d),    cost = integral of f d(absorbed)

where `f` is 1 up to contact and falls to 0 at the safety distance. So the cost is 1 at contact whatever
stands behind the first vehicle, moves with every pixel of its edge, and is small, but not zero, for a faint
blur. Occupancy is the raster squared: 0.1 in a blurred prediction means that a vehicle may be there, not a
tenth of one.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.costs.placement import grid_points, place, place_box
from worldmodel.costs.weighted import Terms
from worldmodel.scene import RasterSpec, relative_pose, sample_image
from worldmodel.scene.raster import DEFAULT_SPEC
from worldmodel.types import Rollout

MAX_HALF_LENGTH, MAX_HALF_WIDTH = 3.0, 1.0
"""Of the ego, for the number of points behind and aside; a longer ego sees less far behind [m]."""
NUM_ASIDE, NUM_SIDE_RAYS = 6, 8
"""Points on a ray to the side, and rays on each side."""
ASIDE = tuple((i + 0.5) / NUM_ASIDE for i in range(NUM_ASIDE))
SIDES = tuple(
    ((2 * ray + 1) / NUM_SIDE_RAYS - 1, side * across)
    for side in (1.0, -1.0)
    for across in ASIDE
    for ray in range(NUM_SIDE_RAYS)
)
"""The points of all rays to the sides, in half lengths and half widths of the ego with its clearance."""


def falloff(gap: Float[Tensor, "*#B"], reach: Float[Tensor, "*#B"]) -> Float[Tensor, "*B"]:
    """Returns 1 at contact (`gap <= 0`), 0 from `reach` on, and in between a parabola with its foot there."""
    return (1 - gap / reach).clamp(0.0, 1.0).square()


def safety_distance(speed: Float[Tensor, "*B"], standstill: float, time_gap: float) -> Float[Tensor, "*B"]:
    """Returns the bumper-to-bumper distance to keep [m]; detached, or slowing down would be a way out."""
    return standstill + time_gap * speed.detach().relu()


def window(offset: Float[Tensor, "*#B"], flat: Float[Tensor, "*#B"], taper: float) -> Float[Tensor, "*B"]:
    """Returns 1 for `offset` within `flat` [m] of the middle, falling to 0 over the next `taper` [m]."""
    return (1 - (offset.abs() - flat) / taper).clamp(0.0, 1.0)


def first_hit(
    occupancy: Float[Tensor, "*B D"], weight: Float[Tensor, "*#B D"], density: float
) -> Float[Tensor, "*B"]:
    """Returns the expected `weight` of the first occupied point of a ray.

    With `E_i = exp(-density sum_{j<=i} occupancy_j)` what passes point `i`, the sum
    `sum_i weight_i (E_{i-1} - E_i)` is reordered into `sum_i (weight_i - weight_{i+1}) (1 - E_i)`.

    Args:
        occupancy: at the points, nearest first.
        weight: what a vehicle there costs; 0 is assumed beyond the last point.
        density: absorbed by a fully occupied point, as an exponent.
    """
    drop = weight - torch.nn.functional.pad(weight[..., 1:], (0, 1))
    absorbed = -torch.expm1(-density * occupancy.cumsum(-1))
    return (drop * absorbed).sum(-1)


@dataclass(frozen=True)
class Proximity:
    """Terms `front`, `rear`, `side`: 1 at contact, 0 beyond the distance to keep.

    Attributes:
        spec: of the predicted rasters.
        standstill: distance to keep ahead at standstill [m].
        time_gap: further distance to keep ahead for each m/s of speed [s].
        rear: distance to keep behind [m].
        clearance: distance to keep aside [m].
        margin: the lane ahead is as wide as the ego and this much more on either side [m],
        taper: and counts less and less over the next metres [m].
        contact: distances up to this count as contact; about the size of a pixel [m].
        spacing: between the points of a ray [m].
        density: absorbed along a metre of full occupancy, as an exponent [1/m].
        vehicles: index of the vehicle channel among those the model predicts.
    """

    spec: RasterSpec = DEFAULT_SPEC
    standstill: float = 2.0
    time_gap: float = 1.0
    rear: float = 8.0
    clearance: float = 1.2
    margin: float = 0.2
    taper: float = 0.8
    contact: float = 0.6
    spacing: float = 0.6
    density: float = 6.0
    vehicles: int = 0

    def __call__(self, rollout: Rollout) -> Terms:
        image = rollout.image[:, :, self.vehicles]
        pose = relative_pose(rollout.ego, rollout.view)
        front, rear = self._along(image, pose, rollout.size)
        return {"front": front, "rear": rear, "side": self._aside(image, pose, rollout.size)}

    def _along(
        self, image: Float[Tensor, "B T H W"], pose: Float[Tensor, "B T 4"], size: Float[Tensor, "B 2"]
    ) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
        along, across = image.new_tensor(self._ahead_offsets), image.new_tensor(self._lane_offsets)
        sampled = sample_image(image, place(grid_points(along, across), pose), self.spec)
        across_weight = window(across, size[:, 1:] / 2 + self.margin, self.taper)  # (B, L)
        across_weight = across_weight / across_weight.sum(-1, keepdim=True)
        occupancy = sampled.square().unflatten(-1, (len(along), len(across)))
        occupancy = (occupancy @ across_weight[:, None, :, None]).squeeze(-1)  # (B, T, D)
        gap = along.abs() - size[:, None, :1] / 2 - self.contact  # (B, 1, D)
        reach = safety_distance(pose[..., 3:], self.standstill, self.time_gap)  # (B, T, 1)
        start, absorbed = self._num_behind, self.density * self.spacing
        front = first_hit(occupancy[..., start:], falloff(gap[..., start:], reach), absorbed)
        behind = slice(0, start + 1)
        rear_weight = falloff(gap[..., behind], gap.new_tensor(self.rear)).flip(-1)
        return front, first_hit(occupancy[..., behind].flip(-1), rear_weight, absorbed)

    def _aside(
        self, image: Float[Tensor, "B T H W"], pose: Float[Tensor, "B T 4"], size: Float[Tensor, "B 2"]
    ) -> Float[Tensor, "B T"]:
        width = size[:, 1] + 2 * (self.margin + self.clearance)
        points = place_box(image.new_tensor(SIDES), pose, torch.stack([size[:, 0], width], dim=-1))
        occupancy = sample_image(image, points, self.spec).square()
        occupancy = occupancy.unflatten(-1, (2, NUM_ASIDE, NUM_SIDE_RAYS)).mean(-1)  # (B, T, 2, D)
        distance = image.new_tensor(ASIDE) * width[:, None] / 2  # (B, D)
        gap = distance - size[:, 1:] / 2 - self.margin
        absorbed = (self.density * width / 2 / NUM_ASIDE)[:, None, None, None]
        hit = first_hit(
            absorbed * occupancy, falloff(gap, gap.new_tensor(self.clearance))[:, None, None], 1.0
        )
        return hit.amax(-1)

    @property
    def _num_behind(self) -> int:
        return math.ceil((self.rear + self.contact + MAX_HALF_LENGTH) / self.spacing)

    @property
    def _ahead_offsets(self) -> list[float]:
        num_ahead = math.ceil(self.spec.length_ahead / self.spacing)
        return [i * self.spacing for i in range(-self._num_behind, num_ahead + 1)]

    @property
    def _lane_offsets(self) -> list[float]:
        num = math.ceil((MAX_HALF_WIDTH + self.margin + self.taper) / self.spacing)
        return [i * self.spacing for i in range(-num, num + 1)]
