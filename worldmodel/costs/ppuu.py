"""The costs of PPUU as published, on pixels, for comparison (Henaff et al. 2019, section 4.1, and its code).

Before using them for planning, know that proximity is a maximum, so one pixel gets a gradient; that the masks
are quantised, so an ordinary car in contact costs 0.826 instead of 1; and that front and rear count alike.
The masks sit on the ego, in the middle of the raster; a raster that was predicted from elsewhere
(`FixedContext`) is looked at from the ego's pose, and what lies beyond it counts as empty.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.costs.placement import place
from worldmodel.costs.weighted import Terms
from worldmodel.scene import RasterSpec, RoadSpec, draw_road, relative_pose, sample_image
from worldmodel.scene.raster import DEFAULT_SPEC, pixel_points
from worldmodel.scene.road import DEFAULT_ROAD
from worldmodel.types import Rollout

SAFE_TIME, SAFE_DISTANCE = 1.5, 1.0
"""Safe distance: 1.5 s of driving and a metre."""
OVERLAP = 1.0
"""Overlap that is not held against the ego [m]."""
LANE_WIDTH = 3.7
"""[m]"""


def tent(num: int, like: Tensor) -> Float[Tensor, " num"]:
    """Returns the distance of each of `num` pixels to the nearer end of the raster [px]."""
    middle = torch.linspace(-1.0, 1.0, num, dtype=like.dtype, device=like.device)
    return (1 - middle.abs()) * num / 2


def longitudinal_mask(
    length: Float[Tensor, "*B"], speed: Float[Tensor, "*B"], spec: RasterSpec
) -> Float[Tensor, "*B H"]:
    """Returns the weight of each row: 1 along the ego, falling linearly to 0 at the safe distance.

    Args:
        length: of the ego [m].
        speed: of the ego, detached here: "otherwise the policy slows down excessively" [m/s].
        spec: of the raster.
    """
    high = _full_from(length, spec.height, spec.resolution)
    safe = (SAFE_TIME * speed.detach().abs() + SAFE_DISTANCE) / spec.resolution
    return _ramp(tent(spec.height, length), (high - safe).relu(), high)


def lateral_mask(width: Float[Tensor, "*B"], spec: RasterSpec) -> Float[Tensor, "*B W"]:
    """Returns the weight of each column, given the ego's width [m]; cut by `ceil`, it may stay below 1."""
    low = (spec.width / 2 - width / spec.resolution).ceil()
    return _ramp(tent(spec.width, width), low, _full_from(width, spec.width, spec.resolution))


def ppuu_proximity_cost(
    image: Float[Tensor, "B T H W"],
    size: Float[Tensor, "B 2"],
    speed: Float[Tensor, "B T"],
    *,
    spec: RasterSpec,
) -> Float[Tensor, "B T"]:
    """Returns the largest masked pixel of the vehicle channel.

    Args:
        image: vehicle channel, at the ego's pose.
        size: length and width of the ego [m].
        speed: of the ego [m/s].
        spec: of the raster.
    """
    rows = longitudinal_mask(size[:, :1].expand_as(speed), speed, spec)  # (B, T, H)
    columns = lateral_mask(size[:, 1:].expand_as(speed), spec)  # (B, T, W)
    return (rows[..., None] * columns[..., None, :] * image).amax((-1, -2))


def ppuu_footprint_cost(
    image: Float[Tensor, "B T H W"], size: Float[Tensor, "B 2"], *, spec: RasterSpec
) -> Float[Tensor, "B T"]:
    """Returns the largest pixel along the ego, weighted linearly from its middle to 0 half a lane aside.

    PPUU's lane cost when `image` is its lane channel, and its off-road cost when that is off-road.
    """
    rows = tent(spec.height, size) >= (spec.height - size[:, :1] / spec.resolution) / 2  # (B, H)
    half_lane = size.new_tensor(LANE_WIDTH / 2 / spec.resolution)
    low, high = (spec.width / 2 - half_lane).ceil(), size.new_tensor(spec.width / 2)
    columns = _ramp(tent(spec.width, size), low, high)  # (W,)
    return (rows[:, None, :, None] * columns * image).amax((-1, -2))


@dataclass(frozen=True)
class PPUU:
    """Terms `ppuu_proximity`, `ppuu_lane`, `ppuu_off_road`; the published weights are 1, 0.2 and 1.

    Attributes:
        spec: of the predicted rasters.
        road_spec: of the road patch, from which lanes and off-road areas are drawn.
        vehicles: index of the vehicle channel among those the model predicts.
    """

    spec: RasterSpec = DEFAULT_SPEC
    road_spec: RoadSpec = DEFAULT_ROAD
    vehicles: int = 0

    def __call__(self, rollout: Rollout) -> Terms:
        drawn = draw_road(rollout.road, rollout.ego[..., :3], self.spec, self.road_spec)
        image, speed, size = self._seen_by_ego(rollout), rollout.ego[..., 3], rollout.size
        return {
            "ppuu_proximity": ppuu_proximity_cost(image, size, speed, spec=self.spec),
            "ppuu_lane": ppuu_footprint_cost(drawn[:, :, 0], size, spec=self.spec),
            "ppuu_off_road": ppuu_footprint_cost(drawn[:, :, 1], size, spec=self.spec),
        }

    def _seen_by_ego(self, rollout: Rollout) -> Float[Tensor, "B T H W"]:
        """Returns the vehicle channel from the ego's pose, through which the gradient runs, too."""
        pixels = pixel_points(self.spec, rollout.ego.device).to(rollout.ego)  # (H, W, 2)
        points = place(pixels.flatten(0, 1), relative_pose(rollout.ego, rollout.view))  # (B, T, H W, 2)
        image = rollout.image[:, :, self.vehicles]
        return sample_image(image, points, self.spec).view_as(image)


def _full_from(size: Tensor, num: int, resolution: float) -> Tensor:
    """The height of the tent over `num` pixels from which on a mask is 1."""
    return ((num - (size - OVERLAP).relu() / resolution) / 2).ceil()


def _ramp(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """0 up to `low`, 1 from `high` on, linear in between."""
    low, high = low[..., None], high[..., None]
    return (value.clamp(low, high) - low) / (high - low)
