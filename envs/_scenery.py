"""Recorded traffic and roads as an ego sees them, for all environments whose egos start from recordings."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, UInt8

from worldmodel.scene import RasterSpec, Recording, Renderer, RoadChannel, RoadField, RoadSpec


class Scenery:
    """Draws recordings and crops their roads, rows from different ones in a call.

    Args:
        recordings: that rows are numbered by.
        spec: of the rasters.
        renderers: one for each recording, where they exist already; they must draw `spec`.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        spec: RasterSpec,
        *,
        renderers: Sequence[Renderer] | None = None,
    ) -> None:
        self.recordings, self.spec = recordings, spec
        self.renderers = renderers or [Renderer(one, spec) for one in recordings]

    @cached_property
    def fields(self) -> list[RoadField]:
        """Roads, one for each recording."""
        return [RoadField(one.lane_map) for one in self.recordings]

    def draw(
        self,
        recording: Int[np.ndarray, " N"],
        views: Float[np.ndarray, "N 3"],
        frames: Int[np.ndarray, " N"],
        egos: Int[np.ndarray, " N"],
    ) -> UInt8[np.ndarray, "N C H W"]:
        """Returns the traffic of a frame as seen from a view, without the vehicle in row `egos`."""
        shape = (len(self.spec.channels), self.spec.height, self.spec.width)
        image = np.empty((len(views), *shape), dtype=np.uint8)
        for number in np.unique(recording):
            mine = recording == number
            image[mine] = self.renderers[number].render(views[mine], frames[mine], egos[mine])
        return image

    def crop_road(
        self, recording: Int[np.ndarray, " N"], pose: Float[np.ndarray, "N 3"], spec: RoadSpec
    ) -> Float[np.ndarray, "N R HR WR"]:
        """Returns the road patches around poses."""
        road = np.empty((len(pose), len(RoadChannel), spec.height, spec.width), dtype=np.float32)
        for number in np.unique(recording):
            mine = recording == number
            road[mine] = self.fields[number].crop(pose[mine], spec)
        return road
