"""One road out of the overlapping maps of the US-101 scenes.

Each scene brings a map of its own stretch. Where two overlap they disagree by centimetres in the middle and
by up to 0.65 m near their ends, so every `x` takes the map whose own ends are farthest away, and the lanelets
are cut there: no gap, nothing twice.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import shapely

from worldmodel.data.error import RecordingError
from worldmodel.data.readers.table import open_bytes
from worldmodel.scene import Lanelet, LaneMap

SPACING = 0.25
"""Resolution of the cuts [m]."""
OWN_LANE = 0.2
"""A left-out piece is drawn all the same if others draw less than this part of it: ramps that one map only
knows."""

Bounds = tuple[np.ndarray, np.ndarray]


def read_lanelets(path: Path) -> dict[str, list[Bounds]]:
    """Returns left and right bound of each lanelet of each scene.

    Raises:
        RecordingError: where the file is missing, cut short or of another format.
    """
    with open_bytes(path) as stream:
        try:
            scenes = json.load(stream)["scene_lanelets"]
            return {
                name: [
                    (np.array(left, dtype=float), np.array(right, dtype=float))
                    for left, right in one.values()
                ]
                for name, one in scenes.items()
            }
        except (EOFError, OSError, gzip.BadGzipFile) as error:
            raise RecordingError(path, None, f"cannot be unpacked ({error}); download it again") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            layout = "{'scene_lanelets': {scene: {id: [left, right]}}}"
            reason = f"not a lanelet file ({error!r}), expected JSON {layout}"
            raise RecordingError(path, None, reason) from error


def join_maps(scenes: Mapping[str, Sequence[Bounds]]) -> LaneMap:
    """Returns one map of the scenes' stretches, without doubled lanes."""
    stretches = {name: _stretch(bounds) for name, bounds in scenes.items()}
    pieces = [
        piece for name, (first, last) in _divide(stretches) for piece in _cut_all(scenes[name], first, last)
    ]
    for name, bounds in scenes.items():
        pieces += _own_lanes(bounds, stretches[name], pieces)
    return LaneMap(tuple(Lanelet(index, left, right) for index, (left, right) in enumerate(pieces)))


def _stretch(bounds: Sequence[Bounds]) -> tuple[float, float]:
    lines = [line[:, 0] for pair in bounds for line in pair]
    return min(float(line.min()) for line in lines), max(float(line.max()) for line in lines)


def _divide(stretches: Mapping[str, tuple[float, float]]) -> list[tuple[str, tuple[float, float]]]:
    """Returns which scene is used from where to where, in order of `x`."""
    names = list(stretches)
    first, last = np.array([stretches[name] for name in names]).T
    x = np.arange(first.min(), last.max() + SPACING, SPACING)
    margin = np.minimum(x[None] - first[:, None], last[:, None] - x[None])
    best = np.where(margin.max(axis=0) >= 0, margin.argmax(axis=0), -1)
    cuts = np.flatnonzero(np.diff(best)) + 1
    parts = []
    for start, stop in pairwise([0, *cuts.tolist(), len(x)]):
        if (owner := best[start]) >= 0:
            parts.append((names[owner], (float(x[start]), float(x[min(stop, len(x) - 1)]))))
    return parts


def _cut_all(bounds: Sequence[Bounds], first: float, last: float) -> list[Bounds]:
    pieces = [(_cut(left, first, last), _cut(right, first, last)) for left, right in bounds]
    return [(left, right) for left, right in pieces if left is not None and right is not None]


def _cut(line: np.ndarray, first: float, last: float) -> np.ndarray | None:
    """Returns the part of a polyline, ascending in `x`, between two `x`; None if hardly any is left."""
    first, last = max(first, line[0, 0]), min(last, line[-1, 0])
    if last - first < SPACING:
        return None
    inner = line[(line[:, 0] > first + 1e-6) & (line[:, 0] < last - 1e-6)]
    ends = np.array([[x, np.interp(x, line[:, 0], line[:, 1])] for x in (first, last)])
    return np.concatenate([ends[:1], inner, ends[1:]])


def _own_lanes(
    bounds: Sequence[Bounds], stretch: tuple[float, float], drawn: Sequence[Bounds]
) -> list[Bounds]:
    """Returns the parts of the lanelets that nobody has drawn yet."""
    area = shapely.union_all([_ring(piece) for piece in drawn])
    found = []
    for pair in bounds:
        ring = _ring(pair)
        for part in getattr(ring.difference(area), "geoms", [ring.difference(area)]):
            if part.is_empty:
                continue
            first, _, last, _ = part.bounds
            for piece in _cut_all([pair], first, last):
                if _ring(piece).intersection(area).area < OWN_LANE * _ring(piece).area:
                    found.append(piece)
    return found


def _ring(piece: Bounds) -> shapely.Geometry:
    return shapely.Polygon(np.concatenate([piece[0], piece[1][::-1]])).buffer(0)
