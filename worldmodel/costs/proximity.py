"""Keeping clear of other vehicles, read from the predicted vehicle channel at the ego's pose.

The raster is looked at along rays fixed to the ego: ahead, behind and aside. Occupancy is rendered along a
ray like a density, which gives the distance to the *first* vehicle, in expectation:

    absorbed(d) = 1 - exp(-density * integral of occupancy up to d),    cost = integral of f d(absorbed)

where `f` is 1 up to contact and falls to 0 at the safety distance. So the cost is 1 at contact whatever
stands behind the first vehicle, moves with every pixel of its edge, and is small, but not zero, for a faint
blur. Occupancy is the raster squared: 0.1 in a blurred prediction means that a vehicle may be there, not a
tenth of one.

A planner spends most of its time here, so all rays are sampled at once, and what is linear in the distances
(where the points are, how much of a ray each stands for, how far the steps are) is one product with a table
that is built once.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.costs.placement import cells, place
from worldmodel.costs.weighted import Terms
from worldmodel.scene import RasterSpec, relative_pose, sample_image
from worldmodel.scene.raster import DEFAULT_SPEC
from worldmodel.types import Rollout

LANE = (-1.0, 0.0, 1.0)
"""Where rays ahead and behind run, in half widths of the ego's lane; about two pixels apart."""
FOOTPRINT = tuple(2 * i - 1 for i in cells(4))
"""Where rays to the sides start [half lengths]."""
BODY_LENGTH, BODY_WIDTH, LANE_WIDTH, CONTACT, AHEAD, BEHIND, ASIDE = range(7)
"""Distances from the ego's centre that rays are made of; of length and width, half [m]."""


class Bundle(NamedTuple):
    """Rays that look the same way and count as one: at each step the mean occupancy is taken.

    Attributes:
        body: which distance the rays are inside the ego, a vehicle there being in contact,
        contact: up to which a vehicle costs 1,
        reach: how far the rays go,
        offset: and of which `offsets` are multiples.
        offsets: of the rays from one another.
        num_inside: equal steps inside the ego.
        num_outside: steps from there to the reach.
        growth: step `i` of `n` outside ends at `(i / n)^growth` of the way: fine where the falloff is steep.
        direction: of the rays, along and across the ego.
    """

    body: int
    contact: int
    reach: int
    offset: int
    offsets: tuple[float, ...]
    num_inside: int
    num_outside: int
    growth: float
    direction: tuple[float, float]

    @property
    def num_steps(self) -> int:
        return self.num_inside + self.num_outside


BUNDLES = (
    Bundle(BODY_LENGTH, CONTACT, AHEAD, LANE_WIDTH, LANE, 2, 14, 1.5, (1.0, 0.0)),
    Bundle(BODY_LENGTH, CONTACT, BEHIND, LANE_WIDTH, LANE, 2, 7, 1.3, (-1.0, 0.0)),
    Bundle(BODY_WIDTH, LANE_WIDTH, ASIDE, BODY_LENGTH, FOOTPRINT, 2, 3, 1.0, (0.0, 1.0)),
    Bundle(BODY_WIDTH, LANE_WIDTH, ASIDE, BODY_LENGTH, FOOTPRINT, 2, 3, 1.0, (0.0, -1.0)),
)
"""Front, rear, left, right. Bilinear sampling sees a pixel around each point, so steps are two pixels at most
where the falloff is steep."""


class RayTables(NamedTuple):
    """Matrices that turn distances and samples of `G` bundles into costs: `P` points, `Q` steps in all.

    Attributes:
        layout: distances -> `points` (along and across the ego), `length` of ray each stands for in its
            bundle, `gap` from contact to each step, `span` from contact to the reach of its bundle.
        sizes: of these parts.
        passed: points -> what lies on the way to each step.
        fall: falloff at each step -> minus its drop to the next.
        total: steps -> bundles.
    """

    layout: Float[Tensor, "D L"]
    sizes: tuple[int, int, int, int]
    passed: Float[Tensor, "P Q"]
    fall: Float[Tensor, "Q Q"]
    total: Float[Tensor, "Q G"]


@cache
def ray_tables(dtype: torch.dtype, device: torch.device) -> RayTables:
    """Returns the tables of `BUNDLES`; do not write to them."""
    with torch.inference_mode(False):
        parts = [_layout(one) for one in BUNDLES]
        layout = [torch.cat(part, dim=1) for part in zip(*parts, strict=True)]
        sizes = tuple(part.shape[1] for part in layout)
        nums = [one.num_steps for one in BUNDLES]
        passed = [torch.ones(num, num).triu() for num in nums]
        passed = [one.repeat_interleave(len(b.offsets), 0) for one, b in zip(passed, BUNDLES, strict=True)]
        fall = [torch.ones(num - 1).diag(-1) - torch.eye(num) for num in nums]
        total = [torch.ones(num, 1) for num in nums]
        matrices = (torch.cat(layout, dim=1), *(torch.block_diag(*one) for one in (passed, fall, total)))
        first, *others = (one.to(device, dtype) for one in matrices)
        return RayTables(first, sizes, *others)  # type: ignore[arg-type]


def _layout(bundle: Bundle) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The layout of one bundle, the points of a step running fastest."""
    rays = len(bundle.offsets)
    distances = torch.eye(ASIDE + 1)[:, :, None]
    body, contact, reach, offset = (distances[one] for one in bundle[:4])  # (D, 1)
    inside = torch.linspace(0.0, 1.0, bundle.num_inside + 1)
    outside = torch.linspace(0.0, 1.0, bundle.num_outside + 1) ** bundle.growth
    ends = torch.cat([body * inside[:-1], body + (reach - body) * outside], dim=1)  # (D, Q + 1)
    middle, length = (ends[:, 1:] + ends[:, :-1]) / 2, ends.diff(dim=1) / rays
    away, beside = middle.repeat_interleave(rays, 1), offset * torch.tensor(bundle.offsets * bundle.num_steps)
    ahead, left = bundle.direction
    points = torch.stack([ahead * away + abs(left) * beside, left * away + abs(ahead) * beside], dim=-1)
    span = (reach - contact).expand_as(middle)
    return points.flatten(1), length.repeat_interleave(rays, 1), middle - contact, span


def falloff(gap: Float[Tensor, "*#B"], reach: Float[Tensor, "*#B"]) -> Float[Tensor, "*B"]:
    """Returns 1 at contact (`gap <= 0`), 0 from `reach` on, and in between a parabola with its foot there."""
    return (1 - gap / reach).clamp(0.0, 1.0).square()


def safety_distance(speed: Float[Tensor, "*B"], standstill: float, time_gap: float) -> Float[Tensor, "*B"]:
    """Returns the bumper-to-bumper distance to keep [m]; detached, or slowing down would be a way out."""
    return standstill + time_gap * speed.detach().relu()


def first_hit(
    occupancy: Float[Tensor, "*B P"], weight: Float[Tensor, "*B Q"], length: Float[Tensor, "*B P"]
) -> Float[Tensor, "*B G"]:
    """Returns what the first vehicle in each bundle is expected to cost.

    With `E_i = exp(-sum_{j<=i} occupancy_j length_j)` what passes step `i`, the sum over a bundle's steps
    `sum_i f_i (E_{i-1} - E_i)` is reordered into `sum_i (f_i - f_{i+1}) (1 - E_i)`.

    Args:
        occupancy: at the points of all bundles.
        weight: what a vehicle at each step costs, the `f` above.
        length: of ray that each point stands for, times the density [absorbed, as an exponent].
    """
    tables = ray_tables(occupancy.dtype, occupancy.device)
    absorbed = torch.expm1((occupancy * -length) @ tables.passed)
    costs: Tensor = (absorbed * (weight @ tables.fall)) @ tables.total
    return costs


@dataclass(frozen=True)
class Proximity:
    """Terms `front`, `rear`, `side`: 1 at contact, 0 beyond the distance to keep.

    Attributes:
        spec: of the predicted rasters.
        standstill: distance to keep ahead at standstill [m].
        time_gap: further distance to keep ahead for each m/s of speed [s].
        rear: distance to keep behind [m].
        clearance: distance to keep aside [m].
        margin: the ego's lane is as wide as the ego and this much more on either side, give or take a pixel
            [m].
        contact: distances up to this count as contact ahead and behind; about the size of a pixel [m].
        density: absorbed along a metre of full occupancy, as an exponent [1/m].
        every: look at every so many steps of the horizon only, from the first on, and let each value stand
            for the steps up to the next. Cheaper by as much.
        vehicles: index of the vehicle channel among those the model predicts.
    """

    spec: RasterSpec = DEFAULT_SPEC
    standstill: float = 2.0
    time_gap: float = 1.0
    rear: float = 8.0
    clearance: float = 1.2
    margin: float = 0.2
    contact: float = 0.6
    density: float = 6.0
    every: int = 2
    vehicles: int = 0

    def __call__(self, rollout: Rollout) -> Terms:
        horizon, image = rollout.ego.shape[1], rollout.image[:, :: self.every, self.vehicles]
        pose = relative_pose(rollout.ego[:, :: self.every, :3], rollout.view[:, :: self.every])
        distances = self._distances(rollout.size[:, None], rollout.ego[:, :: self.every, 3:])
        tables = ray_tables(pose.dtype, pose.device)
        points, length, gap, span = (distances @ tables.layout).split(tables.sizes, dim=-1)
        points = place(points.unflatten(-1, (-1, 2)), pose)  # (B, T, P, 2)
        occupancy = sample_image(image, points, self.spec).square()
        costs = first_hit(occupancy, falloff(gap, span), length * self.density)  # (B, T, 4)
        costs = costs[:, :, None].expand(-1, -1, self.every, -1).flatten(1, 2)[:, :horizon]
        front, rear, left, right = costs.unbind(-1)
        return {"front": front, "rear": rear, "side": torch.maximum(left, right)}

    def _distances(
        self, size: Float[Tensor, "B 1 2"], speed: Float[Tensor, "B T 1"]
    ) -> Float[Tensor, "B T D"]:
        """What rays are made of, in the order of the constants."""
        half_length, half_width = (size / 2).split(1, dim=-1)
        contact, lane = half_length + self.contact, half_width + self.margin
        ahead = contact + safety_distance(speed, self.standstill, self.time_gap)
        before = torch.cat([half_length, half_width, lane, contact], dim=-1)
        after = torch.cat([contact + self.rear, lane + self.clearance], dim=-1)
        num = ahead.shape[1]
        return torch.cat([before.expand(-1, num, -1), ahead, after.expand(-1, num, -1)], dim=-1)
