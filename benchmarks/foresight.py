"""How much of three seconds of traffic can be known at all: boosted trees on the tracks, beside a tracker.

The trees (scikit-learn, absolute error) say how far each car goes in 3 s: from its own speed and offset over
the last second, from places and speeds of three cars ahead and one behind, and from the mean speeds farther
ahead. Cars are then carried on at that velocity and drawn, and the rasters held against the recorded ones as
`worldmodel predict` does, on the windows that it asks. The trees know everybody (`all`), or only those whom
the raster of the ego shows (`seen`), or a longer one (`seen_177` rows), fitted and asked that way; the usual
raster is scored. The tracker lets everybody keep his velocity.

Without arguments: fitted on block A of US-101, asked on block B; both are shipped. With `--us101-c FILE`:
fitted on both, asked on block C without the vehicles that it shares with B.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from _report import parser, report
from jaxtyping import Float, Int
from sklearn.ensemble import HistGradientBoostingRegressor
from torch import Tensor

from worldmodel.app.compose import build, compose
from worldmodel.data import Span, Split
from worldmodel.data.datamodule import TrafficDataModule
from worldmodel.data.dataset import comoving_future
from worldmodel.evaluation.prediction import score_predictions
from worldmodel.evaluation.statistics import bootstrap_mean
from worldmodel.evaluation.tracker import ConstantVelocity, draw_carried_on
from worldmodel.scene import Channel, RasterSpec, Recording, Tracks, relative_pose
from worldmodel.types import Clip

HISTORY, HORIZON, SECONDS = 10, 30, 3.0
SAME_LANE = 1.9
"""Offset up to which somebody drives in one's lane [m]."""
AHEAD = ((0, 30), (30, 60), (60, 100))
"""Stretches whose mean speed is told [m]."""
EVERY, EGOS = 3, 4
"""Fitted on every so many frames, as seen by so many of the vehicles."""
LONGER = (177, 237)
"""Rows of longer rasters."""

Known: TypeAlias = Callable[[Tracks, int, int], Int[np.ndarray, " N"]]
"""Tracks, frame, row of the ego -> the rows of those who are known, the ego included."""


def features(tracks: Tracks, frame: int, rows: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N F"]:
    """Returns what is known of each of these vehicles, nan where nothing is; the first is its own speed."""
    past = tracks.state[rows, frame - 9 : frame + 1].astype(float)
    past[~tracks.valid[rows, frame - 9 : frame + 1]] = np.nan
    x, y = past[:, -1, 0], past[:, -1, 1]
    speed, half_ago, ago = (past[:, k, 3] * np.cos(past[:, k, 2]) for k in (-1, -6, -10))
    faster = speed - half_ago
    own = [speed, half_ago, ago, faster, half_ago - ago, y - past[:, -6, 1], y - past[:, -10, 1]]
    own += [past[:, -1, 2], tracks.size[rows, 0], y]
    gap = x - x[:, None]
    in_lane = np.abs(y - y[:, None]) < SAME_LANE
    told = []
    for rank, sign in ((0, 1), (1, 1), (2, 1), (0, -1)):
        distance = np.where(in_lane & (sign * gap > 0.5), sign * gap, np.inf)
        if rank >= len(rows):
            told.append(np.full((5, len(rows)), np.nan))
            continue
        other = np.argsort(distance, axis=1)[:, rank]
        found = np.stack([gap[range(len(rows)), other], speed[other], speed[other] - speed, faster[other],
                          half_ago[other]])  # fmt: skip
        told.append(np.where(np.isfinite(distance[range(len(rows)), other]), found, np.nan))
    flow = []
    for near, far in AHEAD:
        there = (gap > near) & (gap < far)
        count = there.sum(1)
        flow += [np.where(count, (there * speed).sum(1) / np.maximum(count, 1), np.nan), count]
    return np.concatenate([np.stack(own), *told, np.stack(flow)]).T


def everybody(tracks: Tracks, frame: int, ego: int) -> Int[np.ndarray, " N"]:
    """All who are there: `Known`."""
    return np.flatnonzero(tracks.valid[:, frame])


def visible(tracks: Tracks, frame: int, ego: int, *, spec: RasterSpec) -> Int[np.ndarray, " N"]:
    """Those whose middle is on the ego's raster: `Known`."""
    rows = everybody(tracks, frame, ego)
    state = torch.from_numpy(tracks.state)
    seen = relative_pose(state[rows, frame], state[ego, frame]).abs().numpy()
    reach = np.array([spec.height, spec.width]) * spec.resolution / 2
    return rows[(seen[:, :2] < reach).all(1)]


@dataclass(frozen=True)
class Foresight:
    """Carries everybody on to where trees see him in three seconds: a `Predictor`, with the errors it made.

    Attributes:
        recordings: those that `Clip.origin` numbers.
        along: of features -> what is travelled ahead beyond the own speed [m].
        across: of features -> what is travelled to the left [m].
        known: tells whom they know.
        errors: of the distance travelled by each car, filled as it is asked [m].
        spec: of the rasters that are drawn.
    """

    recordings: Sequence[Recording]
    along: HistGradientBoostingRegressor
    across: HistGradientBoostingRegressor
    known: Known
    errors: list[Float[np.ndarray, " N"]]
    spec: RasterSpec

    def __call__(self, clip: Clip) -> Float[Tensor, "1 B T 1 H W"]:
        views = clip.view[:, HISTORY:].double()
        drawn = [self._draw(*one) for one in zip(clip.origin.tolist(), views, strict=True)]
        return torch.stack(drawn)[None, :, :, None].to(clip.view)

    def _draw(self, origin: Sequence[int], views: Float[Tensor, "T 3"]) -> Float[Tensor, "T H W"]:
        number, ego, frame = origin
        recording = self.recordings[number]
        tracks = recording.tracks
        rows = self.known(tracks, frame, ego)
        told, state = features(tracks, frame, rows), tracks.state[rows, frame].copy()
        ahead = self.along.predict(told) + SECONDS * told[:, 0]
        aside = self.across.predict(told)
        future = tracks.valid[rows, frame + HORIZON] & (rows != ego)
        went = tracks.state[rows, frame + HORIZON, 0] - state[:, 0]
        self.errors.append(np.abs(ahead - went)[future])
        state[:, 2], state[:, 3] = np.arctan2(aside, np.maximum(ahead, 1)), np.hypot(ahead, aside) / SECONDS
        others = torch.from_numpy(rows != ego)
        boxes = torch.from_numpy(state), torch.from_numpy(tracks.size[rows])
        return draw_carried_on(*boxes, others, views=views, dt=recording.dt, spec=self.spec)


def fit(
    recordings: Sequence[Recording], known: Known, *, num_egos: int
) -> tuple[HistGradientBoostingRegressor, HistGradientBoostingRegressor]:
    """Returns the trees for ahead and for the left, fitted on what so many vehicles of a frame know."""
    rng = np.random.default_rng(0)
    told, went = [], []
    for one in recordings:
        for frame in range(HISTORY, one.num_frames - HORIZON, EVERY):
            for ego in rng.permutation(np.flatnonzero(one.tracks.valid[:, frame]))[:num_egos]:
                rows = known(one.tracks, frame, ego)
                future = one.tracks.valid[rows, frame + HORIZON]
                told.append(features(one.tracks, frame, rows)[future])
                state = one.tracks.state[rows[future]]
                went.append(state[:, frame + HORIZON, :2] - state[:, frame, :2])
    x, y = np.concatenate(told), np.concatenate(went)
    trees = {"loss": "absolute_error", "learning_rate": 0.05, "min_samples_leaf": 60, "random_state": 0}
    along = HistGradientBoostingRegressor(max_iter=300, l2_regularization=1.0, **trees)
    across = HistGradientBoostingRegressor(max_iter=150, max_leaf_nodes=15, **trees)
    return along.fit(x, y[:, 0] - SECONDS * x[:, 0]), across.fit(x, y[:, 1])


def main(us101_c: Path | None = None, num_windows: int = 512, json_path: Path | None = None) -> None:
    spec = RasterSpec()
    blocks = build(compose("predict", ["data=us101_ab", "checkpoint=none"]).data)
    if us101_c is None:
        *fitted, block_b = blocks.recordings
        recordings = [block_b]
        split = Split(train=(), val=(), test=(Span(block_b.name, 0, block_b.num_frames),))
    else:
        test = build(compose("predict", ["data=us101_c", f"data.path={us101_c}", "checkpoint=none"]).data)
        fitted, recordings, split = list(blocks.recordings), test.recordings, test.split
    module = TrafficDataModule(
        recordings, split, history=HISTORY, horizon=HORIZON, stride=5, eval_stride=5, mirror=0.0,
        spec=spec, future_views=comoving_future,
    )  # fmt: skip
    windows = module.dataset("test")
    order = np.random.default_rng(0).permutation(len(windows))[:num_windows]
    clips = [windows.collate([windows[int(i)] for i in batch]) for batch in np.array_split(order, 32)]
    rows: dict[str, float] = {"windows": float(len(order))}

    def score(name: str, predictor: ConstantVelocity | Foresight) -> None:
        channel = spec.channels.index(Channel.VEHICLES)
        scores = score_predictions(predictor, clips, history=HISTORY, vehicle_channel=channel)
        for step in (10, 20, 30):
            iou = scores.iou[:, step - 1]
            there = np.isfinite(iou)
            found = bootstrap_mean(iou[there].astype(float), scores.cluster[there], num_resamples=1000)
            rows[f"iou_{name}_{step // 10}s"] = found.estimate
        rows[f"iou_{name}_3s_low"], rows[f"iou_{name}_3s_high"] = found.low, found.high

    score("tracker", ConstantVelocity(recordings, HISTORY, spec))
    knowing: dict[str, tuple[Known, int]] = {
        "all": (everybody, 1),
        "seen": (partial(visible, spec=spec), EGOS),
    }
    for height in LONGER:
        knowing[f"seen_{height}"] = partial(visible, spec=replace(spec, height=height)), EGOS
    for whom, (known, num_egos) in knowing.items():
        name = f"trees_{whom}"
        foresight = Foresight(recordings, *fit(fitted, known, num_egos=num_egos), known, errors=[], spec=spec)
        score(name, foresight)
        rows[f"median_error_{name}_m"] = float(np.median(np.concatenate(foresight.errors)))
    report("foresight", rows, json_path)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--us101-c", type=Path, metavar="FILE", help="us101_block_C.csv.gz")
    given = arguments.parse_args()
    main(given.us101_c, json_path=given.json)
