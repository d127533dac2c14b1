"""Keeping clear of other vehicles, read from the predicted vehicle channel at the ego's pose.

The raster is looked at along rays fixed to the ego: ahead, behind and aside. Occupancy is rendered along a
ray like a density, which gives the distance to the *first* vehicle, in expectation:

    absorbed(d) = 1 - exp(-density * integral of occupancy up to d),    cost = integral of f d(absorbed)

where `f` is 1 up to contact and falls to 0 at the safety distance. So the cost is 1 at contact whatever
stands behind the first vehicle, moves with every pixel of its edge, and is small, but not zero, for a faint
blur. Occupancy is the raster squared: 0.1 in a blurred prediction means that a vehicle may be there, not a
tenth of one.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.costs.placement import cells, place, unit_grid
from worldmodel.costs.weighted import Terms
from worldmodel.scene import RasterSpec, relative_pose, sample_image
from worldmodel.scene.raster import DEFAULT_SPEC
from worldmodel.types import Rollout

NUM_AHEAD, NUM_BEHIND, NUM_ASIDE = 32, 16, 5
"""Points of a ray; dense enough for a raster pixel up to a safety distance of about 20 m."""
LANE = tuple(1.6 * (i - 0.5) for i in cells(5))
"""Where rays ahead and behind start, in half widths of the window."""
FOOTPRINT = tuple(2 * i - 1 for i in cells(5))
"""Where rays to the sides start [half lengths]."""
AHEAD, BEHIND = unit_grid(cells(NUM_AHEAD), LANE), unit_grid(tuple(-i for i in cells(NUM_BEHIND)), LANE)
ASIDE = tuple(
    (along, side * across) for side in (1, -1) for across in cells(NUM_ASIDE) for along in FOOTPRINT
)
"""The points of all rays, each nearest first, in units of how far they reach."""


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
    occupancy: Float[Tensor, "*B D"],
    contact: Float[Tensor, "*#B 1"],
    reach: Float[Tensor, "*#B 1"],
    *,
    density: float,
) -> Float[Tensor, "*B"]:
    """Returns what the first vehicle on a ray is expected to cost: 1 up to `contact`, 0 from `reach` on.

    With `E_i = exp(-density sum_{j<=i} occupancy_j dd)` what passes point `i`, the sum
    `sum_i f_i (E_{i-1} - E_i)` is reordered into `sum_i (f_i - f_{i+1}) (1 - E_i)`.

    Args:
        occupancy: in the middles of `D` equal parts of the ray, nearest first.
        contact: distance along the ray up to which a vehicle costs 1 [m].
        reach: length of the ray [m].
        density: absorbed by a metre of full occupancy, as an exponent [1/m].
    """
    num = occupancy.shape[-1]
    distance = reach * occupancy.new_tensor(cells(num))
    weight = falloff(distance - contact, reach - contact)
    drop = weight - torch.nn.functional.pad(weight[..., 1:], (0, 1))
    absorbed = -torch.expm1((-density / num * reach) * occupancy.cumsum(-1))
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
    density: float = 6.0
    vehicles: int = 0

    def __call__(self, rollout: Rollout) -> Terms:
        pose = relative_pose(rollout.ego, rollout.view)
        length, width = (rollout.size[:, None] / 2).split(1, dim=-1)  # (B, 1, 1)
        contact, lane = length + self.contact, width + self.margin + self.taper
        ahead = contact + safety_distance(pose[..., 3:], self.standstill, self.time_gap)  # (B, T, 1)
        behind, aside = contact + self.rear, width + self.margin + self.clearance
        points = [
            place(pose.new_tensor(units), pose, torch.cat(torch.broadcast_tensors(*scale), dim=-1))
            for units, *scale in ((AHEAD, ahead, lane), (BEHIND, behind, lane), (ASIDE, length, aside))
        ]
        image = rollout.image[:, :, self.vehicles]
        occupancy = sample_image(image, torch.cat(points, dim=-2), self.spec).square()
        front, rear, side = occupancy.split([len(AHEAD), len(BEHIND), len(ASIDE)], dim=-1)
        across = window(pose.new_tensor(LANE) * lane, width + self.margin, self.taper)
        across = (across / across.sum(-1, keepdim=True))[..., None]  # (B, 1, L, 1)
        front, rear = ((one.unflatten(-1, (-1, len(LANE))) @ across).squeeze(-1) for one in (front, rear))
        side = side.unflatten(-1, (2, NUM_ASIDE, -1)).mean(-1)  # (B, T, 2, D)
        both = first_hit(side, (width + self.margin)[..., None], aside[..., None], density=self.density)
        return {
            "front": first_hit(front, contact, ahead, density=self.density),
            "rear": first_hit(rear, contact, behind, density=self.density),
            "side": both.amax(-1),
        }
