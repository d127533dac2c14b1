"""Drawing: one definition of the ego-centred, top-down raster, with a numba and a torch backend.

Everything on the road is an oriented box, and the grey value of a pixel is the share of it that the box
covers, taken as the product of two 1-D overlaps in the box's own frame (pixel units):

    ov(t, h) = clamp(min(t + 1/2, h) - max(t - 1/2, -h), 0, 1)

exact for boxes aligned with the pixels, anti-aliased, without dilation, differentiable. Row 0 is farthest
ahead, column 0 farthest left, the viewer sits at the centre.

`Renderer` draws recordings on the CPU with numba; `worldmodel.scene.raster_torch` is the other backend.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from worldmodel.scene._raster_numba import draw_texture, draw_vehicles
from worldmodel.scene.texture import RoadTexture
from worldmodel.scene.track import HEADING, Recording, X, Y
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

    def row_positions(self) -> Float[np.ndarray, " H"]:
        """Returns how far ahead of the viewer the centre of each row is [m]; the first is the largest."""
        return ((self.height - 1) / 2 - np.arange(self.height)) * self.resolution

    def column_positions(self) -> Float[np.ndarray, " W"]:
        """Returns how far left of the viewer the centre of each column is [m]; the first is the largest."""
        return ((self.width - 1) / 2 - np.arange(self.width)) * self.resolution


DEFAULT_SPEC = RasterSpec()

FrameIndex = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Where each frame's vehicles start, their rows, their boxes (x, y, cos, sin, half length, half width)."""


class Renderer:
    """Draws views of one recording on the CPU, one thread.

    Args:
        recording: whose vehicles and road are drawn.
        spec: what is drawn.

    Example:
        >>> import numpy as np
        >>> from worldmodel.data.synthetic import make_recording
        >>> recording = make_recording(seed=0, num_vehicles=4, num_frames=20, num_lanes=3)
        >>> Renderer(recording).render(recording.tracks.state[:, 5, :3], np.full(4, 5), np.arange(4)).shape
        (4, 3, 117, 24)
    """

    def __init__(self, recording: Recording, spec: RasterSpec = DEFAULT_SPEC) -> None:
        self.spec = spec
        self.num_frames = recording.num_frames
        self.coverage = recording.coverage
        self._lane_map = recording.lane_map
        self._index = index_frames(recording)
        self._reach = float(np.hypot(*recording.tracks.size.T).max(initial=0.0) / 2)

    @cached_property
    def texture(self) -> RoadTexture:
        """The road's picture; drawn when first needed."""
        return RoadTexture.draw(
            self._lane_map, resolution=self.spec.resolution, margin=self.spec.length_aside
        )

    def render(
        self,
        views: Float[np.ndarray, "N 3"],
        frames: Int[np.ndarray, " N"],
        exclude: Int[np.ndarray, " N"],
        *,
        out: UInt8[np.ndarray, "N C H W"] | None = None,
    ) -> UInt8[np.ndarray, "N C H W"]:
        """Returns what each viewer sees.

        Args:
            views: world pose `x, y, heading` of the viewer [m, m, rad].
            frames: of the recording.
            exclude: row of the vehicle that is not drawn (the ego), or -1.
            out: written and returned instead of a new array.

        Raises:
            ValueError: a frame outside the recording, or an `out` of another shape.
        """
        spec, frames = self.spec, self._checked(frames)
        views, exclude = _contiguous(views, np.float64), _contiguous(exclude, np.int64)
        shape = (len(views), len(spec.channels), spec.height, spec.width)
        if out is None:
            out = np.empty(shape, dtype=np.uint8)
        elif out.shape != shape:
            raise ValueError(f"out has shape {out.shape}, expected {shape} (views, channels, height, width)")
        lane, vehicles, off_road = (
            spec.channels.index(channel) if channel in spec.channels else -1 for channel in Channel
        )
        if vehicles >= 0:
            draw_vehicles(views, frames, exclude, self._index, self._reach, spec.resolution, out, vehicles)
        if lane >= 0 or off_road >= 0:
            frame = (*self.texture.corner, self.texture.texel)
            draw_texture(views, self.texture.values, frame, spec.resolution, out, (lane, off_road))
        return out

    def covered_rows(
        self, views: Float[np.ndarray, "N 3"], frames: Int[np.ndarray, " N"]
    ) -> Bool[np.ndarray, "N H"]:
        """Returns whether the centre of each raster row lies on road that was recorded in the frame."""
        coverage = self.coverage[self._checked(frames)]
        x = views[:, :1] + np.cos(views[:, 2:]) * self.spec.row_positions()  # (N, H)
        return np.asarray((x >= coverage[:, :1]) & (x <= coverage[:, 1:]))

    def _checked(self, frames: np.ndarray) -> np.ndarray:
        frames = _contiguous(frames, np.int64)
        if len(frames) and not 0 <= frames.min() <= frames.max() < self.num_frames:
            raise ValueError(
                f"frames {frames.min()} .. {frames.max()} are not all in the recording's {self.num_frames} "
                "(0 is the first); shorten the window or move it"
            )
        return frames


def index_frames(recording: Recording) -> FrameIndex:
    """Returns the vehicles of every frame, adjacent and ordered by `x`."""
    tracks = recording.tracks
    frames, rows = np.nonzero(tracks.valid.T)
    state = tracks.state[rows, frames].astype(np.float64)
    order = np.lexsort((state[:, X], frames))
    frames, rows, state = frames[order], rows[order], state[order]
    cos, sin = np.cos(state[:, HEADING]), np.sin(state[:, HEADING])
    half_size = tracks.size[rows].astype(np.float64) / 2
    boxes = np.stack([state[:, X], state[:, Y], cos, sin, half_size[:, 0], half_size[:, 1]], axis=1)
    offsets = np.searchsorted(frames, np.arange(tracks.num_frames + 1))
    return offsets.astype(np.int64), rows.astype(np.int64), boxes


def _contiguous(array: np.ndarray, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=dtype)
