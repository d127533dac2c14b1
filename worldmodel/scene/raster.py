"""Drawing: one definition of the ego-centred, top-down raster, with a numba and a torch backend.

Everything on the road is an oriented box, and the grey value of a pixel is the share of it that the box covers, taken
as the product of two 1-D overlaps in the box's own frame (pixel units):

    ov(t, h) = clamp(min(t + 1/2, h) - max(t - 1/2, -h), 0, 1)

exact for boxes aligned with the pixels, anti-aliased, without dilation, differentiable. Row 0 is farthest ahead,
column 0 farthest left, the viewer sits at the centre.
"""

from dataclasses import dataclass
from enum import IntEnum

from worldmodel.scene.units import PPUU_METRES_PER_PIXEL


class Channel(IntEnum):
    """Channels of a raster."""

    LANE = 0
    VEHICLES = 1
    OFF_ROAD = 2


@dataclass(frozen=True)
class RasterSpec:
    """What a raster shows.

    Attributes:
        height: rows, along the viewer's heading.
        width: columns, across it.
        resolution: [m/px]
        channels: which, in order.
    """

    height: int = 117
    width: int = 24
    resolution: float = PPUU_METRES_PER_PIXEL
    channels: tuple[Channel, ...] = (Channel.LANE, Channel.VEHICLES, Channel.OFF_ROAD)

    @property
    def length_ahead(self) -> float:
        """Distance from the viewer to the far edge, ahead and behind [m]."""
        return self.height * self.resolution / 2

    @property
    def length_aside(self) -> float:
        """Distance from the viewer to the edge on either side [m]."""
        return self.width * self.resolution / 2
