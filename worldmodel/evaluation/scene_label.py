"""What a scene is like, as numbers that cost nothing in recorded traffic: what encoders are probed for.

A frame is described as the ego sees it. Whatever lies beyond the raster counts as lying at its edge.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from worldmodel.scene import RasterSpec, Recording, relative_pose

LABELS = (
    "gap_ahead",
    "gap_behind",
    "lateral_offset",
    "num_vehicles",
    "left_occupied",
    "right_occupied",
    "urgency",
)
"""Gaps [m], offset from the lane's centre [m], vehicles in view, whether a neighbouring lane is taken beside
the ego (0 or 1), and the inverse of the time to collision [1/s]."""

LANE_WIDTH = 3.7
"""Of a neighbouring lane [m]."""
BESIDE = 8.0
"""How far ahead or behind a centre may be to count as beside the ego [m]."""
MAX_URGENCY = 1.0
"""Contact in a second, or sooner [1/s]."""


def scene_labels(
    recordings: Sequence[Recording],
    origin: Int[np.ndarray, "N 3"],
    *,
    spec: RasterSpec = RasterSpec(),  # noqa: B008 - frozen
) -> Float[np.ndarray, "N L"]:
    """Returns `LABELS` of the frames named by `origin`: recording, vehicle row, frame."""
    labels = np.empty((len(origin), len(LABELS)))
    for number in np.unique(origin[:, 0]):
        mine = np.flatnonzero(origin[:, 0] == number)
        for chunk in np.array_split(mine, -(-len(mine) // 256)):
            labels[chunk] = _labels(recordings[number], origin[chunk, 1], origin[chunk, 2], spec)
    return labels


def _labels(
    recording: Recording, row: Int[np.ndarray, " N"], frame: Int[np.ndarray, " N"], spec: RasterSpec
) -> Float[np.ndarray, "N L"]:
    tracks, ones = recording.tracks, np.arange(len(row))
    ego = tracks.state[row, frame]  # (N, 4)
    others = tracks.state[:, frame].transpose(1, 0, 2)  # (N, V, 4)
    there = tracks.valid[:, frame].T.copy()
    there[ones, row] = False
    local = relative_pose(torch.from_numpy(others), torch.from_numpy(ego).unsqueeze(1)).numpy()
    along, across = local[..., 0], local[..., 1]
    length, width = (tracks.size[None, :, axis] + tracks.size[row, None, axis] for axis in (0, 1))
    reach, side = spec.length_ahead, spec.width * spec.resolution / 2
    gap = np.clip(np.abs(along) - length / 2, 0.0, reach)
    in_path = there & (np.abs(across) < width / 2)
    beside = there & (np.abs(along) < BESIDE)
    closing = ego[:, None, 3] - others[..., 3] * np.cos(others[..., 2] - ego[:, None, 2])
    urgency = np.clip(closing / np.maximum(gap, 1e-3), 0.0, MAX_URGENCY)
    ahead = in_path & (along > 0) & (along - length / 2 < reach)
    return np.stack(
        [
            np.where(in_path & (along > 0), gap, reach).min(axis=1, initial=reach),
            np.where(in_path & (along < 0), gap, reach).min(axis=1, initial=reach),
            recording.lane_map.query(ego[:, :2]).offset,
            (there & (np.abs(along) < reach) & (np.abs(across) < side)).sum(axis=1),
            _any_in_lane(beside, across),
            _any_in_lane(beside, -across),
            np.where(ahead, urgency, 0.0).max(axis=1, initial=0.0),
        ],
        axis=1,
    )


def _any_in_lane(beside: Bool[np.ndarray, "N V"], across: Float[np.ndarray, "N V"]) -> Bool[np.ndarray, " N"]:
    in_lane = beside & (across > LANE_WIDTH / 2) & (across < 1.5 * LANE_WIDTH)
    return np.any(in_lane, axis=1, keepdims=False)
