"""How well the trained models predict held-out windows, beside what needs no model; as a table and curves."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from worldmodel.evaluation.prediction import PredictionScores, Predictor, score_predictions
from worldmodel.evaluation.statistics import Interval, bootstrap_mean
from worldmodel.models import CopyContext, CoupledModel, ForwardModel, LearntContext, StaticContext
from worldmodel.models.context import unroll_prior
from worldmodel.scene import Channel
from worldmodel.types import Clip
from worldmodel.viz import Curve, Table, curve_chart

METRICS = {"mse": "MSE", "best_mse": "MSE, best sample", "iou": "IoU", "sharpness": "sharpness"}
HORIZONS = (0.5, 1.0, 2.0, 3.0)
"""At which the summary and the report's table quote numbers [s]."""
NUM_RESAMPLES = 1000
COLUMNS = ("predictor", "metric", "step", "seconds", "mean", "low", "high")

Scores = Mapping[str, Mapping[str, Sequence[Interval]]]
"""Predictor -> metric -> one interval for each step of the horizon."""


@dataclass(frozen=True)
class Sampled:
    """Draws futures of a model: a `Predictor`, the same at every call.

    Attributes:
        num_samples: one is enough of a deterministic model.
    """

    model: ForwardModel
    num_samples: int = 1
    seed: int = 0

    @torch.no_grad()
    def __call__(self, clip: Clip) -> Float[Tensor, "S B T 1 H W"]:
        """Returns the co-moving futures after the clip's history."""
        generator = Generator(clip.state.device).manual_seed(self.seed)
        memory = self.model.encode(clip.obs(self.model.history)).repeat(self.num_samples)
        frames = unroll_prior(self.model, memory, _horizon(clip, self.model), generator=generator)
        return frames.unflatten(0, (-1, self.num_samples)).transpose(0, 1)


def predictors(
    deterministic: ForwardModel, latent: ForwardModel, *, num_samples: int
) -> dict[str, Predictor]:
    """Returns both models and what they must beat."""
    copy, static = CopyContext(latent.spec), StaticContext(latent.spec, dt=latent.dt)

    def of(source: Any) -> Predictor:
        return lambda clip: source(clip.obs(latent.history), _horizon(clip, latent)).image.unsqueeze(0)

    def empty(clip: Clip) -> Float[Tensor, "1 B T 1 H W"]:
        return torch.zeros_like(of(copy)(clip))

    return {
        "deterministic": of(LearntContext(deterministic)),
        "latent": Sampled(latent, num_samples),
        "copy": of(copy),
        "static": of(static),
        "empty": empty,
    }


def score(
    predictors: Mapping[str, Predictor], clips: Iterable[Clip], model: ForwardModel | CoupledModel
) -> dict[str, dict[str, list[Interval]]]:
    """Returns the scores on the windows of `clips`, resampled by vehicle."""
    channel = model.spec.channels.index(Channel.VEHICLES)
    clips = list(clips)
    found = {}
    for name, predict in predictors.items():
        scores = score_predictions(predict, clips, history=model.history, vehicle_channel=channel)
        found[name] = {metric: _intervals(scores, metric) for metric in METRICS}
    return found


def write_scores(scores: Scores, dt: float) -> str:
    """Returns the scores as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for predictor, metric, step, one in _flat(scores):
        numbers = (f"{value:.6g}" for value in (one.estimate, one.low, one.high))
        writer.writerow((predictor, metric, step, f"{step * dt:.1f}", *numbers))
    return stream.getvalue()


def read_scores(path: Path) -> dict[str, dict[str, list[Interval]]]:
    """Returns what `write_scores` wrote."""
    found: dict[str, dict[str, list[Interval]]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            one = Interval(*(float(row[name]) for name in ("mean", "low", "high")))
            found.setdefault(row["predictor"], {}).setdefault(row["metric"], []).append(one)
    return found


def summarise(scores: Scores, dt: float) -> dict[str, dict[str, dict[str, float]]]:
    """Returns `{predictor: {"mse_over_copy": {seconds: ratio}, "mse": ..., "iou": ...}}` at `HORIZONS`."""
    return {
        name: {"mse_over_copy": _at(lambda step, m=metrics: _ratio(scores, m, step), dt)}
        | {metric: _at(lambda step, o=metrics[metric]: o[step].estimate, dt) for metric in METRICS}
        for name, metrics in scores.items()
    }


def table(scores: Scores, dt: float) -> Table:
    """Returns the report's table: MSE at `HORIZONS`, and as a share of that of *copy*."""
    columns = ("predictor", *(f"MSE {seconds:g} s" for seconds in HORIZONS), "share of copy's", "IoU 1 s")
    rows = []
    for name, found in summarise(scores, dt).items():
        shares = " / ".join(f"{ratio:.2f}" for ratio in found["mse_over_copy"].values())
        mse = (f"{value:.4f}" for value in found["mse"].values())
        rows.append((name, *mse, shares, f"{found['iou']['1.0']:.2f}"))
    caption = "Mean over held-out windows; the share is MSE over that of copy, at the same horizons."
    return Table(columns, tuple(rows), caption)


def chart(scores: Scores, dt: float) -> bytes:
    """Returns MSE, IoU and sharpness over the horizon, with 95 % intervals by vehicle, as SVG."""
    panels: dict[str, dict[str, Curve]] = {"MSE": {}, "IoU": {}, "sharpness": {}}
    for name, metrics in scores.items():
        panels["MSE"][name] = _curve(metrics["mse"], dt)
        if name != "empty":
            panels["IoU"][name] = _curve(metrics["iou"], dt)
            panels["sharpness"][name] = _curve(metrics["sharpness"], dt)
    panels["MSE"]["latent, best of its samples"] = _curve(scores["latent"]["best_mse"], dt)
    return curve_chart(panels, xlabel="horizon [s]")


def _intervals(scores: PredictionScores, metric: str) -> list[Interval]:
    values = getattr(scores, metric)
    found = []
    for step in range(values.shape[1]):
        known = np.isfinite(values[:, step])
        column = values[known, step].astype(float)
        found.append(bootstrap_mean(column, scores.cluster[known], num_resamples=NUM_RESAMPLES))
    return found


def _flat(scores: Scores) -> Iterator[tuple[str, str, int, Interval]]:
    for predictor, metrics in scores.items():
        for metric, intervals in metrics.items():
            for step, one in enumerate(intervals, start=1):
                yield predictor, metric, step, one


def _at(value: Any, dt: float) -> dict[str, float]:
    return {f"{seconds:.1f}": value(round(seconds / dt) - 1) for seconds in HORIZONS}


def _ratio(scores: Scores, metrics: Mapping[str, Sequence[Interval]], step: int) -> float:
    return metrics["mse"][step].estimate / scores["copy"]["mse"][step].estimate


def _curve(intervals: Sequence[Interval], dt: float) -> Curve:
    x = np.arange(1, len(intervals) + 1) * dt
    parts = ([getattr(one, name) for one in intervals] for name in ("estimate", "low", "high"))
    y, low, high = (np.array(part, dtype=float) for part in parts)
    return Curve(x, y, low, high)


def _horizon(clip: Clip, model: ForwardModel) -> int:
    return clip.image.shape[1] - model.history
