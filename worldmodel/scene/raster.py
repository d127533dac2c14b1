"""Drawing: one definition of the ego-centred, top-down raster, with a numba and a torch backend.

Everything on the road is an oriented box, and the grey value of a pixel is the share of it that the box
covers, taken as the product of two 1-D overlaps in the box's own frame (pixel units):

    ov(t, h) = clamp(min(t + 1/2, h) - max(t - 1/2, -h), 0, 1)

exact for boxes aligned with the pixels, anti-aliased, without dilation, differentiable. Row 0 is farthest
ahead, column 0 farthest left, the viewer sits at the centre.

`Renderer` and `render_moments` draw recordings and moments on the CPU with numba. `TorchRenderer` and
`render_boxes` do it batched on any device, differentiably; tests hold the backends together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from worldmodel.scene._frame_index import FrameIndex
from worldmodel.scene._raster_numba import draw_texture, draw_vehicles, mark_covered
from worldmodel.scene.constant import constant
from worldmodel.scene.kinematics import relative_pose
from worldmodel.scene.lane import LaneMap
from worldmodel.scene.texture import RoadTexture, road_texture
from worldmodel.scene.track import Recording
from worldmodel.scene.units import PPUU_METRES_PER_PIXEL


class Channel(IntEnum):
    """Channels of a raster."""

    LANE = 0
    VEHICLES = 1
    OFF_ROAD = 2


if TYPE_CHECKING:
    Channels: TypeAlias = tuple[Channel, ...]
else:  # what configurations give, which is turned into the former
    Channels = tuple[Channel | str, ...] | list[Channel | str]


@dataclass(frozen=True)
class RasterSpec:
    """What a raster shows.

    Attributes:
        height: rows, along the viewer's heading.
        width: columns, across it.
        resolution: [m/px]
        channels: which, in order; names will do, as `vehicles`.

    Raises:
        ValueError: no such channel.
    """

    height: int = 117
    width: int = 24
    resolution: float = PPUU_METRES_PER_PIXEL
    channels: Channels = (Channel.LANE, Channel.VEHICLES, Channel.OFF_ROAD)

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(_channel(one) for one in self.channels))

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


def _channel(one: Channel | str) -> Channel:
    name = one.upper() if isinstance(one, str) else Channel(one).name
    if name not in Channel.__members__:
        raise ValueError(f"channel {one!r}, expected some of {', '.join(Channel.__members__).lower()}")
    return Channel[name]


DEFAULT_SPEC = RasterSpec()


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
        frames, rows = np.nonzero(recording.tracks.valid.T)
        pose, size = recording.tracks.state[rows, frames, :3], recording.tracks.size[rows]
        boxes = np.concatenate([pose, size], axis=1, dtype=np.float64)
        self._index = FrameIndex.of(boxes, frames, rows, num_frames=recording.num_frames)

    @cached_property
    def texture(self) -> RoadTexture:
        """The road's picture; drawn when first needed."""
        return road_texture(self._lane_map, resolution=self.spec.resolution, margin=self.spec.length_aside)

    def render(
        self,
        views: Float[np.ndarray, "N 3"],
        frames: Int[np.ndarray, " N"],
        exclude: Int[np.ndarray, " N"],
        *,
        out: UInt8[np.ndarray, "M C H W"] | None = None,
        where: Int[np.ndarray, " N"] | None = None,
    ) -> UInt8[np.ndarray, "M C H W"]:
        """Returns what each viewer sees.

        Args:
            views: world pose `x, y, heading` of the viewer [m, m, rad].
            frames: of the recording.
            exclude: row of the vehicle that is not drawn (the ego), or -1.
            out: written and returned instead of a new array.
            where: row of `out` that each view is written to, without it one after the other.

        Raises:
            ValueError: a frame outside the recording, or an `out` that does not fit.
        """
        spec, frames = self.spec, self._checked(frames)
        views, exclude = _contiguous(views, np.float64), _contiguous(exclude, np.int64)
        shape = (len(spec.channels), spec.height, spec.width)
        where = np.arange(len(views)) if where is None else _contiguous(where, np.int64)
        out = np.empty((len(views), *shape), dtype=np.uint8) if out is None else out
        if out.shape[1:] != shape or (len(where) and not 0 <= where.min() <= where.max() < len(out)):
            raise ValueError(
                f"out has shape {out.shape}, expected at least {where.max(initial=-1) + 1} rows of {shape} "
                "(channels, height, width)"
            )
        _draw(
            views, frames, exclude, self._index, texture=lambda: self.texture, spec=spec, out=out, where=where
        )
        return out

    def covered_rows(
        self, views: Float[np.ndarray, "N 3"], frames: Int[np.ndarray, " N"]
    ) -> Bool[np.ndarray, "N H"]:
        """Returns whether the centre of each raster row lies on road that was recorded in the frame."""
        covered = np.empty((len(views), self.spec.height), dtype=np.bool_)
        coverage = _contiguous(self.coverage[self._checked(frames)], np.float64)
        mark_covered(_contiguous(views, np.float64), coverage, self.spec.row_positions(), covered)
        return covered

    def _checked(self, frames: np.ndarray) -> np.ndarray:
        frames = _contiguous(frames, np.int64)
        if len(frames) and not 0 <= frames.min() <= frames.max() < self.num_frames:
            raise ValueError(
                f"frames {frames.min()} .. {frames.max()} are not all in the recording's {self.num_frames} "
                "(0 is the first); shorten the window or move it"
            )
        return frames


def render_moments(
    views: Float[np.ndarray, "N 3"],
    boxes: Float[np.ndarray, "N V 5"],
    valid: Bool[np.ndarray, "N V"],
    lane_map: LaneMap,
    spec: RasterSpec = DEFAULT_SPEC,
) -> UInt8[np.ndarray, "N C H W"]:
    """Returns what each viewer sees of a moment of its own on the same road, on the CPU.

    Args:
        views: world pose `x, y, heading` of the viewer [m, m, rad].
        boxes: of the vehicles, `x, y, heading, length, width`.
        valid: whether there is such a vehicle.
        lane_map: the road.
    """
    frames, rows = np.nonzero(valid)
    index = FrameIndex.of(boxes[frames, rows], frames, rows, num_frames=len(views))
    out = np.empty((len(views), len(spec.channels), spec.height, spec.width), dtype=np.uint8)
    numbers, nobody = np.arange(len(views)), np.full(len(views), -1)
    views = _contiguous(views, np.float64)
    texture = partial(road_texture, lane_map, resolution=spec.resolution, margin=spec.length_aside)
    _draw(views, numbers, nobody, index, texture=texture, spec=spec, out=out, where=numbers)
    return out


class TorchRenderer:
    """Draws views of one recording on `device`; as `Renderer`, but tensors in [0, 1].

    The vehicles are differentiable in the view. The road is looked up texel by texel and is not: `draw_road`
    (`worldmodel.scene.road`) draws it from a smooth field.
    """

    def __init__(
        self, recording: Recording, spec: RasterSpec = DEFAULT_SPEC, *, device: torch.device | str = "cpu"
    ) -> None:
        self.spec = spec
        self._rows, self._boxes = _frame_table(recording, device)
        self._road = road_texture(recording.lane_map, resolution=spec.resolution, margin=spec.length_aside)
        values = torch.from_numpy(self._road.values.astype("int32"))
        self._texels = torch.stack([values & 255, values >> 8]).to(torch.uint8).to(device)  # (2, NX, NY)

    def render(
        self, views: Float[Tensor, "N 3"], frames: Int[Tensor, " N"], exclude: Int[Tensor, " N"]
    ) -> Float[Tensor, "N C H W"]:
        """Returns what each viewer sees; give the views in float64 where coordinates are large.

        Args:
            views: world pose `x, y, heading` of the viewer [m, m, rad].
            frames: of the recording.
            exclude: row of the vehicle that is not drawn (the ego), or -1.
        """
        drawn: dict[Channel, Tensor] = {}
        if Channel.VEHICLES in self.spec.channels:
            drawn[Channel.VEHICLES] = self._vehicles(views, frames, exclude)
        if not {Channel.LANE, Channel.OFF_ROAD}.isdisjoint(self.spec.channels):
            drawn[Channel.LANE], drawn[Channel.OFF_ROAD] = self._ground(views)
        return torch.stack([drawn[channel] for channel in self.spec.channels], dim=1)

    def _vehicles(self, views: Tensor, frames: Tensor, exclude: Tensor) -> Tensor:
        rows = self._rows[frames]  # (N, M)
        boxes = relative_pose(self._boxes[frames], views.double().unsqueeze(1)).float()
        return render_boxes(boxes, (rows >= 0) & (rows != exclude.unsqueeze(1)), self.spec)

    def _ground(self, views: Tensor) -> tuple[Tensor, Tensor]:
        points = pixel_points(self.spec, views.device).double()  # (H, W, 2)
        x, y, heading = views.detach().double()[:, :, None, None].unbind(1)  # (N, 1, 1)
        x = x + heading.cos() * points[..., 0] - heading.sin() * points[..., 1]
        y = y + heading.sin() * points[..., 0] + heading.cos() * points[..., 1]
        (left, bottom), texel = self._road.corner, self._road.texel
        i, j = ((x - left) / texel[0]).floor().long(), ((y - bottom) / texel[1]).floor().long()
        _, num_x, num_y = self._texels.shape
        inside = (i >= 0) & (i < num_x) & (j >= 0) & (j < num_y)
        grey = self._texels[:, i.clamp(0, num_x - 1), j.clamp(0, num_y - 1)].float() / 255
        return torch.where(inside, grey[0], 0.0), torch.where(inside, grey[1], 1.0)


def render_boxes(
    boxes: Float[Tensor, "*B M 5"], valid: Bool[Tensor, "*B M"], spec: RasterSpec = DEFAULT_SPEC
) -> Float[Tensor, "*B H W"]:
    """Returns the vehicle channel in [0, 1]; differentiable in the boxes, and so in the view.

    Each box is drawn into a window just large enough for the largest, which is then added to its image.

    Args:
        boxes: `x, y, heading, length, width` in the view's frame [m, rad].
        valid: whether the box is there.
        spec: height, width and resolution are used.
    """
    batch = boxes.shape[:-2]
    number = torch.arange(batch.numel(), device=boxes.device).repeat_interleave(boxes.shape[-2])  # (B M)
    x, y, heading, length, width = boxes.flatten(0, -2).unbind(-1)  # (B M)
    cos, sin = heading.cos(), heading.sin()
    row = (spec.height - 1) / 2 - x / spec.resolution
    col = (spec.width - 1) / 2 - y / spec.resolution
    half_length, half_width = length / 2 / spec.resolution, width / 2 / spec.resolution
    with torch.no_grad():
        tall = cos.abs() * (half_length + 0.5) + sin.abs() * (half_width + 0.5)
        wide = sin.abs() * (half_length + 0.5) + cos.abs() * (half_width + 0.5)
        seen = (
            (row + tall > 0)
            & (row - tall < spec.height - 1)
            & (col + wide > 0)
            & (col - wide < spec.width - 1)
        )
        keep = (seen & valid.flatten()).nonzero().squeeze(1)
    image = boxes.new_zeros(batch.numel() * spec.height * spec.width)
    if len(keep):
        index, cover = _windows(
            torch.stack([row, col, cos, sin, half_length, half_width], -1)[keep], tall[keep], wide[keep], spec
        )
        start = number[keep, None, None] * (spec.height * spec.width)
        image = image.index_add(0, (start + index).flatten(), cover.flatten())
    return image.clamp(max=1.0).reshape(*batch, spec.height, spec.width)


def _windows(boxes: Tensor, tall: Tensor, wide: Tensor, spec: RasterSpec) -> tuple[Tensor, Tensor]:
    """Returns pixel index within an image and coverage, both (K, rows, columns), of K boxes' windows."""
    row, col, cos, sin, half_length, half_width = boxes[:, :, None, None].unbind(1)  # (K, 1, 1)
    rows = (row.squeeze(2).detach() - tall[:, None]).ceil() + _range(tall)  # (K, R)
    cols = (col.squeeze(2).detach() - wide[:, None]).ceil() + _range(wide)  # (K, C)
    ahead, left = row - rows.unsqueeze(2), col - cols.unsqueeze(1)
    cover = overlap(cos * ahead + sin * left, half_length) * overlap(cos * left - sin * ahead, half_width)
    in_image = ((rows >= 0) & (rows < spec.height)).unsqueeze(2) & (
        (cols >= 0) & (cols < spec.width)
    ).unsqueeze(1)
    rows, cols = rows.clamp(0, spec.height - 1).long(), cols.clamp(0, spec.width - 1).long()
    return rows.unsqueeze(2) * spec.width + cols.unsqueeze(1), cover * in_image


def _range(extent: Tensor) -> Tensor:
    return torch.arange(int(2 * extent.max()) + 1, device=extent.device, dtype=extent.dtype)


def overlap(t: Float[Tensor, "*#B"], h: Float[Tensor, "*#B"]) -> Float[Tensor, "*B"]:
    """Returns the overlap of the unit interval around `t` with `[-h, h]`."""
    return (torch.minimum(t + 0.5, h) - torch.maximum(t - 0.5, -h)).clamp(0.0, 1.0)


def sample_image(
    image: Float[Tensor, "B T H W"], points: Float[Tensor, "B T P 2"], spec: RasterSpec = DEFAULT_SPEC
) -> Float[Tensor, "B T P"]:
    """Returns the image between its pixels (bilinear) at `points`, zero outside; differentiable in both.

    Args:
        image: one channel of a raster.
        points: `x` ahead and `y` left of the image's viewer [m].
        spec: of the raster; only its extent is used.
    """
    # From the centre to the outer edge of the image is 1 for grid_sample; its axes are (column, row).
    swap = constant(((0.0, -1 / spec.length_ahead), (-1 / spec.length_aside, 0.0)), points)
    grid = (points.flatten(0, -2) @ swap).view(-1, 1, *points.shape[-2:])  # (B T, 1, P, 2)
    values = F.grid_sample(
        image.flatten(0, 1).unsqueeze(1), grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return values.reshape(*points.shape[:-1])


def pixel_points(spec: RasterSpec, device: torch.device | str = "cpu") -> Float[Tensor, "H W 2"]:
    """Returns `x` ahead and `y` left of the viewer of every pixel centre [m]."""
    x = torch.from_numpy(spec.row_positions()).float()
    y = torch.from_numpy(spec.column_positions()).float()
    return torch.stack(torch.meshgrid(x, y, indexing="ij"), dim=-1).to(device)


def _frame_table(recording: Recording, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Returns the vehicle rows (T, M), -1 where there is none, and their boxes (T, M, 5) of every frame."""
    tracks = recording.tracks
    valid = torch.from_numpy(tracks.valid.T.copy())
    width = max(1, int(valid.sum(1).max()))
    order = torch.argsort(~valid, dim=1, stable=True)[:, :width]  # the valid first
    state, size = torch.from_numpy(tracks.state).double(), torch.from_numpy(tracks.size).double()
    frames = torch.arange(tracks.num_frames).unsqueeze(1)
    boxes = torch.cat([state[order, frames, :3], size[order]], dim=-1)
    rows = torch.where(valid.gather(1, order), order, -1)
    return rows.to(device), torch.where(rows.unsqueeze(-1) >= 0, boxes, 0.0).to(device)


def _draw(
    views: Float[np.ndarray, "N 3"],
    frames: Int[np.ndarray, " N"],
    exclude: Int[np.ndarray, " N"],
    index: FrameIndex,
    *,
    texture: Callable[[], RoadTexture],
    spec: RasterSpec,
    out: UInt8[np.ndarray, "M C H W"],
    where: Int[np.ndarray, " N"],
) -> None:
    """Draws the channels of `spec` into rows `where` of `out`; the road's picture is asked for if needed."""
    lane, vehicles, off_road = (
        spec.channels.index(channel) if channel in spec.channels else -1 for channel in Channel
    )
    if vehicles >= 0:
        arrays, target = (index.offsets, index.rows, index.boxes), (out, where, vehicles)
        draw_vehicles(views, frames, exclude, arrays, index.reach, spec.resolution, target)
    if lane >= 0 or off_road >= 0:
        road = texture()
        frame = (*road.corner, *road.texel)
        draw_texture(views, road.values, frame, spec.resolution, (out, where, lane, off_road))


def _contiguous(array: np.ndarray, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=dtype)
