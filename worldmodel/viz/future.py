"""Futures side by side: one row for each, the same instants below one another."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import matplotlib
import numpy as np
from jaxtyping import Float

from worldmodel.scene import RasterSpec
from worldmodel.viz.draw import draw_ego, paint_raster
from worldmodel.viz.layout import Picture, grid, stack, write_text


@dataclass(frozen=True)
class Future:
    """Rasters of one future with its present, and the ego's box in the view of each.

    Attributes:
        raster: in [0, 1]; the first is the newest that was seen.
        ego: `(x, y, heading, length, width)`.
    """

    raster: Float[np.ndarray, "T C H W"]
    ego: Float[np.ndarray, "T 5"]


Groups = Mapping[str, Mapping[str, Future]]
"""Heading -> label -> future."""


def future_grid(
    groups: Groups, steps: Sequence[int], spec: RasterSpec, *, dt: float = 0.1, scale: int = 3
) -> Picture:
    """Returns the futures at the given steps (0 = what was seen last), one row each, in groups."""
    columns = ["seen" if step == 0 else f"in {step * dt:.1f} s" for step in steps]
    cards = []
    for heading, rows in groups.items():
        pictures = [[_draw(one, step, spec, scale) for step in steps] for one in rows.values()]
        cards.append((heading, grid(pictures, rows=list(rows), columns=columns)))
    width = max(card.shape[1] for _, card in cards)
    return stack([write_text(_widened(card, width), heading, (12, 4), bold=True) for heading, card in cards])


def future_frames(groups: Groups, spec: RasterSpec, *, dt: float = 0.1, scale: int = 3) -> Iterator[Picture]:
    """Yields every instant, all futures at once: two columns of groups."""
    futures = [(label, one) for rows in groups.values() for label, one in rows.items()]
    half = -(-len(futures) // 2)
    for step in range(len(futures[0][1].raster)):
        halves = []
        for part in (futures[:half], futures[half:]):
            pictures = [[_draw(one, step, spec, scale)] for _, one in part]
            label = f"{step * dt:+.1f} s" if step else "seen"
            halves.append(grid(pictures, rows=[name for name, _ in part], columns=[label]))
        yield _beside(halves)


def doubt_grid(
    future: Future,
    predicted: Future,
    doubts: Mapping[str, Float[np.ndarray, "T H W"]],
    steps: Sequence[int],
    spec: RasterSpec,
    *,
    dt: float = 0.1,
    scale: int = 3,
) -> Picture:
    """Returns what was recorded, what was predicted, and heat maps of standard deviations, all on one scale.

    Args:
        steps: 1 is the first of the predicted frames, as in `Future`; `doubts` start there.
    """
    top = max(float(one[[step - 1 for step in steps]].max()) for one in doubts.values())
    rows = [[_draw(one, step, spec, scale) for step in steps] for one in (future, predicted)]
    for doubt in doubts.values():
        heats = [_heat(doubt[step - 1] / max(top, 1e-9), spec, scale) for step in steps]
        boxes = [predicted.ego[step].astype(float) for step in steps]
        rows.append([draw_ego(heat, box, spec, scale=scale) for heat, box in zip(heats, boxes, strict=True)])
    columns = [f"in {step * dt:.1f} s" for step in steps]
    return grid(rows, rows=["recorded", "predicted", *doubts], columns=columns, size=16)


def _heat(share: Float[np.ndarray, "H W"], spec: RasterSpec, scale: int) -> Picture:
    """Values in [0, 1] as colours, turned as `paint_raster` turns them."""
    layer = np.rot90(np.clip(share, 0.0, 1.0), k=-1).astype(np.float32)
    size = (spec.height * scale, spec.width * scale)
    smooth = np.clip(cv2.resize(layer, size, interpolation=cv2.INTER_LINEAR), 0.0, 1.0)
    return (np.asarray(matplotlib.colormaps["inferno"](smooth))[..., :3] * 255).round().astype(np.uint8)


def _draw(future: Future, step: int, spec: RasterSpec, scale: int) -> Picture:
    raster = np.clip(future.raster[step], 0.0, 1.0)
    return draw_ego(
        paint_raster(raster, spec, scale=scale), future.ego[step].astype(float), spec, scale=scale
    )


def _widened(card: Picture, width: int) -> Picture:
    """The card, its pictures moved right, so that those of all cards stand below one another."""
    return np.concatenate([np.repeat(card[:, :1], width - card.shape[1], axis=1), card], axis=1)


def _beside(cards: Sequence[Picture]) -> Picture:
    height = max(card.shape[0] for card in cards)
    padded = [np.concatenate([card, np.repeat(card[-1:], height - card.shape[0], axis=0)]) for card in cards]
    return np.concatenate(padded, axis=1)
