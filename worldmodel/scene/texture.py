"""The road as a picture: lane markings and the ground off the road, filtered for one raster resolution.

A texel holds the value of a raster pixel centred there and aligned with the marking or edge beside it, so
that drawing a view is one look-up per pixel. Built once per map; knows nothing of vehicles or views.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import shapely
from jaxtyping import Float, UInt16

from worldmodel.scene._raster_numba import fill_rings, segment_distance
from worldmodel.scene.lane import LaneMap

MARKING_WIDTH = 0.3
"""Width of a painted line [m]."""
OVERSAMPLING = (2, 4)
"""Texels per pixel along and across the road (`x`, `y`); markings vary across it."""
MAX_TEXELS = 400_000_000


@dataclass(frozen=True, eq=False)
class RoadTexture:
    """A prefiltered picture of a road in world coordinates.

    Attributes:
        values: grey value of the markings + 256 times that of off-road; axes along `x` and `y`.
        corner: smallest `x` and `y` [m].
        texel: its size along `x` and `y` [m].
    """

    values: UInt16[np.ndarray, "NX NY"]
    corner: tuple[float, float]
    texel: tuple[float, float]

    @classmethod
    def draw(cls, lane_map: LaneMap, *, resolution: float, margin: float) -> "RoadTexture":
        """Returns the picture of `lane_map` and `margin` [m] around it for pixels of `resolution` [m].

        With `d` the distance to the nearest marking, the lane value is `ov(d)` of the raster's definition for
        a box of the marking's width; with `s` the signed distance to the edge, off-road is
        `clamp(1/2 - s, 0, 1)`, pixel units. Both are exact for a straight line parallel to the pixel's side.

        Raises:
            ValueError: the map is too large for one picture.
        """
        texel = (resolution / OVERSAMPLING[0], resolution / OVERSAMPLING[1])
        left, bottom, right, top = lane_map.bounds
        corner = (left - margin, bottom - margin)
        shape = (
            int(np.ceil((right - left + 2 * margin) / texel[0])),
            int(np.ceil((top - bottom + 2 * margin) / texel[1])),
        )
        if shape[0] * shape[1] > MAX_TEXELS:
            raise ValueError(
                f"a map of {right - left:.0f} m x {top - bottom:.0f} m needs {shape[0] * shape[1]:,} texels, "
                f"expected at most {MAX_TEXELS:,}; cut the map or choose pixels larger than {resolution} m"
            )
        lines = [line for one in lane_map.lanelets for line in (one.left, one.right)]
        rings = [np.asarray(ring.coords) for ring in _rings(lane_map.area)]
        reach = resolution / 2 + MARKING_WIDTH / 2
        marking = segment_distance(_segments(lines, corner), shape, texel, 1.01 * reach) / resolution
        edge = segment_distance(_segments(rings, corner), shape, texel, resolution) / resolution
        inside = fill_rings(_segments(rings, corner), shape, texel)
        half = MARKING_WIDTH / 2 / resolution
        lane = np.clip(np.minimum(marking + 0.5, half) - np.maximum(marking - 0.5, -half), 0.0, 1.0)
        off_road = np.clip(0.5 - np.where(inside, edge, -edge), 0.0, 1.0)
        values = np.round(lane * 255.0) + 256.0 * np.round(off_road * 255.0)
        return cls(values.astype(np.uint16), corner, texel)


_TEXTURES: WeakKeyDictionary[LaneMap, dict[tuple[float, float], RoadTexture]] = WeakKeyDictionary()
"""Those of the maps in use: many recordings, and every moment of a simulation, lie on one road."""


def road_texture(lane_map: LaneMap, *, resolution: float, margin: float) -> RoadTexture:
    """Returns `RoadTexture.draw` of the same arguments, drawn once for as long as the map lives."""
    known = _TEXTURES.setdefault(lane_map, {})
    if (resolution, margin) not in known:
        known[resolution, margin] = RoadTexture.draw(lane_map, resolution=resolution, margin=margin)
    return known[resolution, margin]


def _segments(lines: list[np.ndarray], corner: tuple[float, float]) -> Float[np.ndarray, "S 4"]:
    pieces = [np.asarray(line, dtype=np.float64)[:, :2] - np.asarray(corner) for line in lines]
    return np.concatenate([np.concatenate([one[:-1], one[1:]], axis=1) for one in pieces])


def _rings(area: shapely.Geometry) -> list[shapely.Geometry]:
    return [
        ring
        for polygon in shapely.get_parts(area)
        for ring in shapely.get_rings(polygon)
        if not shapely.is_empty(ring)
    ]
