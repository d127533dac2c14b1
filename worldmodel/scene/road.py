"""The road as smooth fields: what costs and models read of the map, sampled on a grid around the ego.

`RoadField` asks the map once, on a grid over its whole area, and cuts patches from it in any planning frame.
The torch functions then read a patch at metric points, or draw it into a raster. Knows no vehicles.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from worldmodel.scene._raster_numba import crop_fields
from worldmodel.scene.constant import constant
from worldmodel.scene.lane import LaneMap
from worldmodel.scene.raster import DEFAULT_SPEC, RasterSpec, overlap, pixel_points
from worldmodel.scene.texture import MARKING_WIDTH

MAX_LANE = 4.0
"""LANE is clipped here: two half widths from the centre."""
MAX_EDGE = 8.0
"""EDGE is clipped to plus and minus this [m]."""
GRID_SPACING = 0.5
"""Of the field [m]."""
NARROWEST_HALF_WIDTH = 0.5
"""What narrows to a point at a merge is taken to be this wide [m]."""
BEYOND_END = 100.0
"""The road goes on for this long where the map ends; about as far as a plan reaches [m]."""
TYPICAL_HALF_WIDTH = 1.85
"""Of a lane, where only LANE is known and a marking is to be drawn [m]."""


class RoadChannel(IntEnum):
    """What a road patch holds.

    LANE: `(offset / half width)^2` from the nearest lane centre: 0 there, 1 on the marking, at most 4.
    EDGE: distance to the edge of the road, positive on it, clipped to 8 [m]. Where the map ends, the road is
        taken to go straight on: nobody should brake for the end of a map.
    HEADING: direction of the nearest lane relative to the planning frame [rad].
    """

    LANE = 0
    EDGE = 1
    HEADING = 2


@dataclass(frozen=True)
class RoadSpec:
    """Extent and spacing of a road patch around the planning frame's origin [m].

    Row 0 is farthest ahead, column 0 farthest left; rows and columns are points, the outer on the border.
    """

    ahead: float = 100.0
    behind: float = 24.0
    aside: float = 12.0
    along: float = 2.0
    across: float = 0.5

    @property
    def height(self) -> int:
        """Number of rows."""
        return round((self.ahead + self.behind) / self.along) + 1

    @property
    def width(self) -> int:
        """Number of columns."""
        return round(2 * self.aside / self.across) + 1

    def row_positions(self) -> Float[np.ndarray, " HR"]:
        """Returns how far ahead each row is [m]."""
        return self.ahead - self.along * np.arange(self.height)

    def column_positions(self) -> Float[np.ndarray, " WR"]:
        """Returns how far to the left each column is [m]."""
        return self.aside - self.across * np.arange(self.width)


DEFAULT_ROAD = RoadSpec()


class RoadField:
    """The fields of a whole map, computed when first asked for, and once for all fields of one map.

    Example:
        >>> field = RoadField(LaneMap.straight(length=200.0, num_lanes=2, lane_width=4.0))
        >>> patch = field.crop(np.array([[100.0, 2.0, 0.0]]))  # on the centre of the right lane
        >>> patch.shape
        (1, 3, 63, 49)
        >>> patch[0, RoadChannel.EDGE, 50, 24].item()
        2.0
    """

    def __init__(self, lane_map: LaneMap) -> None:
        self._lane_map = lane_map

    @cached_property
    def _grid(self) -> "_Grid":
        return _grid_of(self._lane_map)

    def crop(
        self, views: Float[np.ndarray, "N 3"], spec: RoadSpec = DEFAULT_ROAD
    ) -> Float[np.ndarray, "N R HR WR"]:
        """Returns the patch around each view (world pose `x, y, heading`), in its frame, as float32."""
        grid = self._grid
        out = np.empty((len(views), len(RoadChannel), spec.height, spec.width), dtype=np.float32)
        views = np.ascontiguousarray(views, dtype=np.float64)
        crop_fields(views, grid.fields, grid.frame, spec.row_positions(), spec.column_positions(), out)
        return out


def sample_road(
    road: Float[Tensor, "B R HR WR"], points: Float[Tensor, "B *P 2"], spec: RoadSpec = DEFAULT_ROAD
) -> Float[Tensor, "B *P R"]:
    """Returns the fields at `points` of the planning frame: bilinear, the border repeated; differentiable."""
    # The outer points are at -1 and 1 for grid_sample; its axes are (column, row).
    height, width = (spec.along * (road.shape[-2] - 1) / 2, spec.across * (road.shape[-1] - 1) / 2)
    swap = constant(((0.0, -1 / height), (-1 / width, 0.0)), points)
    first = constant((spec.aside / width - 1, spec.ahead / height - 1), points)
    grid = torch.addmm(first, points.reshape(-1, 2), swap).view(len(road), 1, -1, 2)  # (B, 1, P, 2)
    values = F.grid_sample(road, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return values[:, :, 0].transpose(1, 2).reshape(*points.shape[:-1], -1)


def draw_road(
    road: Float[Tensor, "B R HR WR"],
    views: Float[Tensor, "B T 3"],
    raster_spec: RasterSpec = DEFAULT_SPEC,
    road_spec: RoadSpec = DEFAULT_ROAD,
) -> Float[Tensor, "B T 2 H W"]:
    """Returns LANE and OFF_ROAD of a raster in [0, 1], seen from `views` (planning frame); differentiable.

    The markings are where the LANE field is 1, every lane taken to be `2 TYPICAL_HALF_WIDTH` wide; so they
    are a little softer than `Renderer`'s, which knows the lines themselves.
    """
    points = pixel_points(raster_spec, views.device).to(views)
    cos, sin = views[..., 2].cos()[..., None, None], views[..., 2].sin()[..., None, None]  # (B, T, 1, 1)
    x = views[..., 0, None, None] + cos * points[..., 0] - sin * points[..., 1]
    y = views[..., 1, None, None] + sin * points[..., 0] + cos * points[..., 1]
    fields = sample_road(road[:, : RoadChannel.HEADING], torch.stack([x, y], dim=-1), road_spec)
    offset = (
        fields[..., RoadChannel.LANE].clamp(min=1e-6).sqrt()
    )  # in half widths; its slope at 0 is infinite
    distance = (offset - 1.0) * TYPICAL_HALF_WIDTH / raster_spec.resolution
    lane = overlap(distance, distance.new_tensor(MARKING_WIDTH / 2 / raster_spec.resolution))
    off_road = (0.5 - fields[..., RoadChannel.EDGE] / raster_spec.resolution).clamp(0.0, 1.0)
    return torch.stack([lane, off_road], dim=2)


@dataclass(frozen=True)
class _Grid:
    """The fields of a whole map.

    Attributes:
        fields: heading in the world frame.
        frame: x and y of the first point, and the spacing [m].
    """

    fields: Float[np.ndarray, "NX NY 3"]
    frame: tuple[float, float, float]

    def mirror(self) -> "_Grid":
        """Returns the grid of the mirrored map, its points being the mirror images of these."""
        fields = self.fields[:, ::-1].copy()
        fields[..., RoadChannel.HEADING] *= -1
        x, y, spacing = self.frame
        return _Grid(fields, (x, -(y + spacing * (fields.shape[1] - 1)), spacing))


_GRIDS: WeakKeyDictionary[LaneMap, _Grid] = WeakKeyDictionary()
"""Those of the maps in use: a grid takes seconds, and many ask for it (every dataset, every environment)."""


def _grid_of(lane_map: LaneMap) -> _Grid:
    """Returns the map's grid, sampled once for as long as the map lives; a mirror image's is mirrored."""
    grid, original = _GRIDS.get(lane_map), lane_map.mirror_of
    if grid is None:
        grid = _sampled(lane_map) if original is None else _grid_of(original).mirror()
        _GRIDS[lane_map] = grid
    return grid


def _sampled(lane_map: LaneMap) -> _Grid:
    """Asks the map at every grid point."""
    road = lane_map.extended(BEYOND_END)
    left, bottom, right, top = road.bounds
    # Beyond this margin every field is constant but for its direction.
    margin = MAX_EDGE + GRID_SPACING
    # Extended or not, the grid has a point on the corner of the map itself.
    x0, y0 = (
        corner - GRID_SPACING * np.ceil((corner - low + margin) / GRID_SPACING)
        for corner, low in zip(lane_map.bounds[:2], (left, bottom), strict=True)
    )
    x = np.arange(x0, right + margin + GRID_SPACING, GRID_SPACING)
    y = np.arange(y0, top + margin + GRID_SPACING, GRID_SPACING)
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    answer = road.query(points)
    lane = (answer.offset / np.maximum(answer.half_width, NARROWEST_HALF_WIDTH)) ** 2
    edge = road.edge_distance(points).clip(-MAX_EDGE, MAX_EDGE)
    fields = np.stack([lane.clip(max=MAX_LANE), edge, answer.heading], axis=-1)
    grid = fields.reshape(len(x), len(y), 3).astype(np.float32)
    return _Grid(grid, (float(x[0]), float(y[0]), GRID_SPACING))
