"""The world from above: the map and its markings, the vehicles of a recording, the ego and its plan."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Float

from worldmodel.scene import LaneMap, Recording
from worldmodel.viz.draw import SHIFT, box_corners, dot, draw_car, fill, outline
from worldmodel.viz.layout import Picture, blank, write_text
from worldmodel.viz.palette import (
    ASPHALT,
    CARS,
    DANGER,
    FAINT_INK,
    INK,
    MARKING,
    OFF_ROAD,
    OURS,
    PLAN,
    RECORDED,
    UNSEEN,
    Colour,
)

EDGE = 0.6
"""Markings nearer than this to the road's boundary are its edge and solid; the others are dashed [m]."""
DASH, DASH_PERIOD = 3.0, 9.0
MARGIN = 4.0
"""Our car stays this far inside the picture of a drive [m]."""


@dataclass(frozen=True)
class Camera:
    """A north-up view: `centre` of the picture in the world, its extent [m] and `scale` [px/m]."""

    centre: tuple[float, float]
    length: float = 120.0
    width: float = 32.0
    scale: float = 6.0

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns; even, as video wants them."""
        return 2 * round(self.width * self.scale / 2), 2 * round(self.length * self.scale / 2)

    def project(self, points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        """Returns the pixels (column, row) of points in the world."""
        height, width = self.shape
        delta = (points - np.array(self.centre)) * self.scale
        return np.stack([width / 2 + delta[:, 0], height / 2 - delta[:, 1]], axis=1)


@dataclass(frozen=True)
class Ego:
    """A car to be drawn in colour: its box `(x, y, heading, length, width)`, and where it wants to go."""

    box: Float[np.ndarray, " 5"]
    colour: Colour = OURS
    path: Float[np.ndarray, "N 2"] | None = None
    is_ghost: bool = False


@dataclass(frozen=True)
class EpisodeView:
    """What an episode's video needs: one entry per frame.

    Attributes:
        frames: of the recording.
        vehicle: row of the recorded vehicle that the ego replaces.
        ego: our states `x, y, heading, speed`, world frame.
        paths: where we planned to go, world frame; None where nothing was planned.
        ending: how it ended, written over the last frame; empty when nothing went wrong.
    """

    recording: Recording
    vehicle: int
    frames: Sequence[int]
    ego: Float[np.ndarray, "T 4"]
    paths: Sequence[Float[np.ndarray, "N 2"] | None] = field(default=())
    title: str = ""
    ending: str = ""


@dataclass(frozen=True, eq=False)
class RoadPainter:
    """Draws one map again and again; its markings are prepared once."""

    lane_map: LaneMap

    def paint(self, camera: Camera, coverage: tuple[float, float] | None = None) -> Picture:
        """Returns the empty road, darkened outside `coverage` (smallest and largest recorded x [m])."""
        picture = blank(*camera.shape, OFF_ROAD)
        for ring in self._rings:
            fill(picture, camera.project(ring), ASPHALT)
        thickness = max(1, round(0.16 * camera.scale))
        for line in self._markings:
            pixels = np.round(camera.project(line) * (1 << SHIFT)).astype(np.int32)
            cv2.polylines(picture, [pixels], False, MARKING, thickness, cv2.LINE_AA, SHIFT)
        if coverage is not None:
            ends = camera.project(np.array([[coverage[0], 0.0], [coverage[1], 0.0]]))[:, 0]
            left, right = np.clip(np.round(ends), 0, picture.shape[1]).astype(int)
            for part in (picture[:, :left], picture[:, right:]):
                part[:] = (0.35 * part + 0.65 * np.array(UNSEEN)).astype(np.uint8)
        return picture

    @cached_property
    def _rings(self) -> list[np.ndarray]:
        return [np.concatenate([one.left, one.right[::-1]]) for one in self.lane_map.lanelets]

    @cached_property
    def _markings(self) -> list[np.ndarray]:
        lines = []
        for lanelet in self.lane_map.lanelets:
            # A right bound inside the road is the left bound of the next lane: draw it once.
            for bound, is_left in ((lanelet.left, True), (lanelet.right, False)):
                points = _resample(bound, 0.5)
                is_edge = np.abs(self.lane_map.edge_distance(points)) < EDGE
                is_dash = np.mod(points[:, 0], DASH_PERIOD) < DASH
                lines += _pieces(points, is_edge | is_dash if is_left else is_edge)
        return lines


def world_view(
    recording: Recording, frame: int, camera: Camera, *, egos: Sequence[Ego] = (), hide: int | None = None,
    painter: RoadPainter | None = None,
) -> Picture:  # fmt: skip
    """Returns the road with its vehicles at `frame`, without the row `hide`, and `egos` in colour."""
    painter = painter or RoadPainter(recording.lane_map)
    picture = painter.paint(camera, tuple(recording.coverage[frame].tolist()))
    tracks = recording.tracks
    for row in np.flatnonzero(tracks.valid[:, frame]):
        if row != hide:
            box = np.concatenate([tracks.state[row, frame, :3], tracks.size[row]])
            draw_car(picture, camera.project(box_corners(box)), CARS[int(tracks.ids[row]) % len(CARS)])
    for ego in egos:
        if ego.path is not None:
            dot(picture, camera.project(ego.path), PLAN, radius=0.35 * camera.scale)
    for ego in egos:
        corners = camera.project(box_corners(ego.box))
        if ego.is_ghost:
            draw_car(picture, corners, ego.colour, alpha=0.55)
            outline(picture, corners, ego.colour, width=1)
        else:
            draw_car(picture, corners, ego.colour)
    return picture


def episode_frames(
    view: EpisodeView, *, length: float = 120.0, width: float = 32.0, scale: float = 6.0,
    painter: RoadPainter | None = None,
) -> Iterator[Picture]:  # fmt: skip
    """Yields the pictures of an episode, the camera following our car; the recorded one is a yellow ghost."""
    painter = painter or RoadPainter(view.recording.lane_map)
    tracks = view.recording.tracks
    middle = _middle(view, length=length, width=width)
    for index, frame in enumerate(view.frames):
        camera = Camera((float(view.ego[index, 0]) + 10.0, middle), length, width, scale)
        size = tracks.size[view.vehicle]
        egos = []
        if tracks.valid[view.vehicle, frame]:
            recorded = np.concatenate([tracks.state[view.vehicle, frame, :3], size])
            egos.append(Ego(recorded, RECORDED, is_ghost=True))
        path = view.paths[index] if index < len(view.paths) else None
        egos.append(Ego(np.concatenate([view.ego[index, :3], size]), OURS, path))
        picture = world_view(view.recording, frame, camera, egos=egos, hide=view.vehicle, painter=painter)
        yield _caption(picture, view, index, frame)


def _middle(view: EpisodeView, *, length: float, width: float) -> float:
    """The y in the middle of the road along the drive; nearer to the ego where the road is wide."""
    bounds = [line for one in view.recording.lane_map.lanelets for line in (one.left, one.right)]
    points = np.concatenate([_resample(line, 5.0) for line in bounds])
    first, last = view.ego[:, 0].min() - length / 2, view.ego[:, 0].max() + length / 2
    y = points[(points[:, 0] > first) & (points[:, 0] < last), 1]
    ego = view.ego[:, 1]
    middle = (y.min() + y.max()) / 2 if len(y) else np.median(ego)
    reach = width / 2 - MARGIN
    return float(np.clip(middle, ego.max() - reach, ego.min() + reach))


def _caption(picture: Picture, view: EpisodeView, index: int, frame: int) -> Picture:
    bar = blank(26, picture.shape[1])
    tracks = view.recording.tracks
    elapsed = index * view.recording.dt
    speeds = f"{elapsed:4.1f} s    driven {view.ego[index, 3]:4.1f} m/s"
    if tracks.valid[view.vehicle, frame]:
        speeds += f"    recorded {tracks.state[view.vehicle, frame, 3]:4.1f} m/s"
    bar = write_text(bar, view.title, (10, 13), size=13, colour=INK, anchor="lm", bold=True)
    bar = write_text(bar, speeds, (bar.shape[1] - 10, 13), size=12, colour=FAINT_INK, anchor="rm")
    if view.ending and index == len(view.frames) - 1:
        middle = (picture.shape[1] / 2, 8)
        picture = write_text(picture, view.ending, middle, size=18, colour=DANGER, anchor="ma", bold=True)
    return np.concatenate([bar, picture])


def _resample(line: np.ndarray, spacing: float) -> np.ndarray:
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    target = np.arange(0.0, along[-1] + spacing, spacing).clip(max=along[-1])
    return np.stack([np.interp(target, along, line[:, 0]), np.interp(target, along, line[:, 1])], axis=1)


def _pieces(points: np.ndarray, keep: np.ndarray) -> list[np.ndarray]:
    cuts = np.flatnonzero(np.diff(keep.astype(np.int8))) + 1
    pieces = zip(np.split(points, cuts), np.split(keep, cuts), strict=True)
    return [piece for piece, kept in pieces if kept[0] and len(piece) > 1]
