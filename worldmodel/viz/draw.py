"""Rasters as pictures: enlarged, coloured, turned so that the car drives to the right.

A raster is what the model sees and predicts (`worldmodel.scene.raster`); the world itself is drawn by
`worldmodel.viz.world`.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Float, Shaped

from worldmodel.scene import Channel, RasterSpec
from worldmodel.viz.layout import Picture, blank, grid
from worldmodel.viz.palette import ASPHALT, CARS, GLASS, MARKING, OFF_ROAD, OURS, PLAN, Colour

SHIFT = 4
"""Fractional bits of the coordinates given to OpenCV."""
DOT_SPACING = 3
"""Every which point of a plan is dotted."""


def paint_raster(raster: Shaped[np.ndarray, "C H W"], spec: RasterSpec, *, scale: int = 4) -> Picture:
    """Returns the raster as a picture, ahead to the right, left on top; `uint8` or `float` in [0, 1]."""
    if raster.shape[0] != len(spec.channels):
        raise ValueError(
            f"raster has {raster.shape[0]} channels, the spec names {len(spec.channels)}; "
            "pass a RasterSpec with the channels that are in the raster"
        )
    share = raster.astype(np.float32) / (255.0 if raster.dtype == np.uint8 else 1.0)
    picture = blank(spec.width * scale, spec.height * scale, ASPHALT).astype(np.float32)
    for channel, colour in (
        (Channel.OFF_ROAD, OFF_ROAD),
        (Channel.LANE, MARKING),
        (Channel.VEHICLES, CARS[0]),
    ):
        if channel in spec.channels:
            layer = np.rot90(share[spec.channels.index(channel)], k=-1)
            weight = cv2.resize(
                layer, (spec.height * scale, spec.width * scale), interpolation=cv2.INTER_CUBIC
            )
            weight = np.clip(weight, 0.0, 1.0)[..., None] * (0.55 if channel == Channel.LANE else 1.0)
            picture += weight * (np.array(colour, dtype=np.float32) - picture)
    return picture.round().astype(np.uint8)


def raster_pixels(
    points: Float[np.ndarray, "N 2"], spec: RasterSpec, *, scale: int = 4
) -> Float[np.ndarray, "N 2"]:
    """Returns where points of the raster's view frame [m] are in its picture (column, row)."""
    column = (points[:, 0] + spec.length_ahead) / spec.resolution * scale
    row = (spec.length_aside - points[:, 1]) / spec.resolution * scale
    return np.stack([column, row], axis=1)


def draw_car(
    picture: Picture, corners: Float[np.ndarray, "4 2"], colour: Colour, *, alpha: float = 1.0
) -> None:
    """Draws a car into the picture: corners in pixels, front left, rear left, rear right, front right."""
    front_left, rear_left, rear_right, front_right = corners
    layer = picture if alpha == 1.0 else picture.copy()
    fill(layer, corners, colour)
    screen = [_mix(front_left, rear_left, share) for share in (0.26, 0.40)]
    screen += [_mix(front_right, rear_right, share) for share in (0.40, 0.26)]
    middle = corners.mean(axis=0)
    fill(layer, middle + (np.array(screen) - middle) * np.array([1.0, 0.82]), GLASS)
    if alpha < 1.0:
        picture[:] = cv2.addWeighted(layer, alpha, picture, 1 - alpha, 0.0)


def fill(picture: Picture, polygon: Float[np.ndarray, "N 2"], colour: Colour) -> None:
    """Fills a polygon given in pixels, anti-aliased."""
    points = np.round((polygon - 0.5) * (1 << SHIFT)).astype(np.int32)
    cv2.fillPoly(picture, [points], colour, cv2.LINE_AA, SHIFT)


def outline(picture: Picture, polygon: Float[np.ndarray, "N 2"], colour: Colour, *, width: int = 2) -> None:
    """Draws the closed outline of a polygon given in pixels."""
    points = np.round((polygon - 0.5) * (1 << SHIFT)).astype(np.int32)
    cv2.polylines(picture, [points], True, colour, width, cv2.LINE_AA, SHIFT)


def dot(
    picture: Picture, points: Float[np.ndarray, "N 2"], colour: Colour = PLAN, *, radius: float = 2.5
) -> None:
    """Draws a dotted line through points given in pixels."""
    angle = np.linspace(0.0, 2 * np.pi, 16, endpoint=False)
    circle = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    for point in points[DOT_SPACING - 1 :: DOT_SPACING]:
        fill(picture, point + circle, colour)


def box_corners(box: Float[np.ndarray, " 5"]) -> Float[np.ndarray, "4 2"]:
    """Returns the corners of `(x, y, heading, length, width)`: front left, rear left, rear right ..."""
    x, y, heading, length, width = box
    ahead = np.array([np.cos(heading), np.sin(heading)]) * length / 2
    left = np.array([-np.sin(heading), np.cos(heading)]) * width / 2
    centre = np.array([x, y])
    return np.stack(
        [centre + ahead + left, centre - ahead + left, centre - ahead - left, centre + ahead - left]
    )


def draw_ego(
    picture: Picture, box: Float[np.ndarray, " 5"], spec: RasterSpec, *, scale: int = 4,
    colour: Colour = OURS, path: Float[np.ndarray, "N 2"] | None = None,
) -> Picture:  # fmt: skip
    """Returns the picture of a raster with the ego's box and its path, in the raster's view frame [m]."""
    picture = picture.copy()
    if path is not None:
        dot(picture, raster_pixels(path, spec, scale=scale))
    draw_car(picture, raster_pixels(box_corners(box), spec, scale=scale), colour)
    return picture


def strip(
    rollouts: Mapping[str, Float[np.ndarray, "T C H W"]], steps: Sequence[int], spec: RasterSpec, *,
    dt: float = 0.1, ego: Float[np.ndarray, "T 5"] | None = None, scale: int = 3,
) -> Picture:  # fmt: skip
    """Returns one row per rollout (recorded, samples ...) at the given steps (1 = the next frame).

    Args:
        ego: the ego's box in the view of each frame [m]; not drawn when None.
    """
    rows = []
    for rollout in rollouts.values():
        pictures = [paint_raster(rollout[step - 1], spec, scale=scale) for step in steps]
        if ego is not None:
            boxes = [ego[step - 1] for step in steps]
            pairs = zip(pictures, boxes, strict=True)
            pictures = [draw_ego(picture, box, spec, scale=scale) for picture, box in pairs]
        rows.append(pictures)
    return grid(rows, rows=list(rollouts), columns=[f"{step * dt:.1f} s" for step in steps])


def _mix(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return a + (b - a) * share
