"""The tables of `worldmodel results`, from what its stages left: rows, then Markdown, CSV, JSON and PNG.

A row is an agent, what it was trained on and what it was tested on; the seeds of an agent, driven under names
that end in `_sN`, are one row.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.app.prediction import HORIZONS
from worldmodel.app.stage import Stage
from worldmodel.evaluation.episode import EpisodeResult
from worldmodel.evaluation.statistics import Interval, bootstrap_seeds, clustered_wilson
from worldmodel.evaluation.table import SIDES, read_episodes
from worldmodel.viz import Rate, rate_picture

RATES = ("safe", "success")
PREDICTION_METRICS = ("mse_over_copy", "iou", "sharpness")
SEED = re.compile(r"(.+)_s(\d+)")


@dataclass(frozen=True)
class Drive:
    """An agent's episodes on a test, seed by seed, in the order of `episodes`.

    Attributes:
        table: that it belongs to.
        on: what the agent was trained on; empty where nothing was.
        seeds: seed -> rows.
        latency_ms: of one decision, median; the mean over seeds.
        cluster: of a row, for paired differences: the name of its field.
    """

    table: str
    agent: str
    on: str
    test: str
    seeds: Mapping[str, Sequence[EpisodeResult]]
    latency_ms: float
    cluster: str

    @property
    def clusters(self) -> np.ndarray:
        """What each episode belongs to."""
        rows = next(iter(self.seeds.values()))
        return np.array([f"{row.recording}:{getattr(row, self.cluster)}" for row in rows])

    def values(self, name: str) -> np.ndarray:
        """A field of all episodes, `(seeds, episodes)`."""
        return np.array([[float(getattr(row, name)) for row in rows] for rows in self.seeds.values()])

    def is_like(self, other: "Drive") -> bool:
        """Whether both drove the same episodes."""
        mine, theirs = (next(iter(one.seeds.values())) for one in (self, other))
        return [_identity(row) for row in mine] == [_identity(row) for row in theirs]


def read_drives(stages: Iterable[Stage], folder: Path) -> list[Drive]:
    """Returns what the finished stages with episodes hold."""
    found = []
    for stage in stages:
        path = folder / stage.name / "episodes.parquet"
        if not stage.labels["table"] or not path.is_file():
            continue
        summary = json.loads((folder / stage.name / "summary.json").read_text(encoding="utf-8"))
        agents: dict[str, dict[str, list[EpisodeResult]]] = {}
        for row in sorted(read_episodes(path), key=_identity):
            seeded = SEED.fullmatch(row.agent)
            name, seed = (seeded[1], seeded[2]) if seeded else (row.agent, "")
            agents.setdefault(name, {}).setdefault(seed, []).append(row)
        for name, seeds in agents.items():
            names = [f"{name}_s{seed}" if seed else name for seed in seeds]
            latency = np.mean([summary["agents"][one]["latency_ms"] for one in names])
            told = stage.labels["table"], name, stage.labels.get("trained", ""), stage.labels["course"]
            found.append(Drive(*told, seeds, float(latency), summary["paired_cluster"]))
    return found


def driving_rows(drives: Sequence[Drive], *, reference: str) -> list[dict[str, Any]]:
    """Returns one row for each drive, with paired differences to the agent `reference` on the same test."""
    rivals = {one.test: one for one in drives if one.agent == reference}
    return [_driving_row(one, rivals.get(one.test)) for one in drives]


def _driving_row(drive: Drive, rival: Drive | None) -> dict[str, Any]:
    num_seeds, n = drive.values("safe").shape
    row: dict[str, Any] = {
        "table": drive.table, "agent": drive.agent, "trained_on": drive.on, "test": drive.test,
        "seeds": num_seeds, "n": n, "clusters": len(set(drive.clusters.tolist())),
    }  # fmt: skip
    for rate in RATES:
        row |= named(rate, rate_of(drive, rate))
        row[f"{rate}_by_seed"] = drive.values(rate).mean(axis=1).tolist()
    row |= named("distance", bootstrap_seeds(drive.values("distance"), drive.clusters))
    for side in SIDES:
        hits = [one.collision_side == side for rows in drive.seeds.values() for one in rows]
        row[side] = float(np.mean(hits))
    row["off_road"] = float(drive.values("off_road").mean())
    row |= named("jerk", bootstrap_seeds(drive.values("mean_jerk"), drive.clusters))
    row["latency_ms"] = drive.latency_ms
    for rate in RATES:
        if rival is not None and rival is not drive and drive.is_like(rival):
            mine, theirs = drive.values(rate), rival.values(rate)
            row |= named(f"{rate}_gain", bootstrap_seeds(mine, drive.clusters, against=theirs))
    return row


def rate_of(drive: Drive, rate: str) -> Interval:
    """Returns a rate with its interval by cluster: Wilson's; of several seeds, bootstrapped over both."""
    values = drive.values(rate)
    if len(values) == 1:
        return clustered_wilson(values[0], drive.clusters)
    return bootstrap_seeds(values, drive.clusters)


def prediction_rows(stages: Iterable[Stage], folder: Path) -> list[dict[str, Any]]:
    """Returns one row for each model, way of choosing latents, and test; seeds are averaged."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for stage in stages:
        path = folder / stage.name / "summary.json"
        if stage.labels["table"] != "prediction" or not path.is_file():
            continue
        labels, summary = stage.labels, json.loads(path.read_text(encoding="utf-8"))
        model = " ".join(labels[name] for name in ("predictor", "encoder") if name in labels)
        for predictor, metrics in summary["predictors"].items():
            key = model, predictor, labels["trained"], labels["test"]
            found.setdefault(key, []).append(_prediction_values(metrics) | {"windows": summary["windows"]})
    names = ("model", "latents", "trained_on", "test")
    return [
        {
            "table": "prediction", **dict(zip(names, key, strict=True)), "seeds": len(seeds),
            **{name: float(np.mean([one[name] for one in seeds])) for name in seeds[0]},
        }
        for key, seeds in found.items()
    ]  # fmt: skip


def _prediction_values(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {
        f"{metric}_{seconds:g}s": metrics[metric][f"{seconds:.1f}"]
        for metric in PREDICTION_METRICS
        for seconds in HORIZONS
    }


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns all rows under all of their columns."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return stream.getvalue()


def as_markdown(driving: Sequence[Mapping[str, Any]], prediction: Sequence[Mapping[str, Any]]) -> str:
    """Returns the tables, one for each kind and test."""
    parts = []
    for table in dict.fromkeys(row["table"] for row in driving):
        for test in dict.fromkeys(row["test"] for row in driving):
            rows = [row for row in driving if (row["table"], row["test"]) == (table, test)]
            if rows:
                parts.append(f"## {table.capitalize()} on {test}\n\n{_driving_table(rows)}")
    for test in dict.fromkeys(row["test"] for row in prediction):
        rows = [row for row in prediction if row["test"] == test]
        parts.append(f"## Prediction on {test}\n\n{_prediction_table(rows)}")
    return "\n\n".join(parts) + "\n"


def pictures(driving: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """Returns a PNG for each table: how often agents succeed on each test; what has learnt stands out."""
    found = {}
    for table in dict.fromkeys(row["table"] for row in driving):
        rows = [row for row in driving if row["table"] == table]
        several = len({row["trained_on"] for row in rows if row["trained_on"]}) > 1
        panels: dict[str, dict[str, Rate]] = {}
        for row in rows:
            ends = (row[f"success{end}"] for end in ("", "_low", "_high"))
            panels.setdefault(f"success on {row['test']}", {})[_label(row, several)] = Rate(*ends)
        learnt = {_label(row, several) for row in rows if row["trained_on"]}
        found[table] = rate_picture(panels, highlight=learnt)
    return found


def _label(row: Mapping[str, Any], is_said: bool) -> str:
    return f"{row['agent']}, {row['trained_on']}" if is_said and row["trained_on"] else row["agent"]


def _driving_table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = (
        "agent", "trained on", "seeds x n", "safe [%]", "success [%]", "distance [m]",
        "front / rear / side / off road [%]", "jerk [m/s^3]", "decision [ms]",
        "safe gained", "success gained",
    )  # fmt: skip
    cells = [
        (
            row["agent"], row["trained_on"] or "-", f"{row['seeds']} x {row['n']}",
            *(rate_cell(row, rate) + _spread(row[f"{rate}_by_seed"]) for rate in RATES),
            f"{row['distance']:.1f}",
            " / ".join(f"{100 * row[name]:.1f}" for name in (*SIDES, "off_road")),
            f"{row['jerk']:.1f}", f"{row['latency_ms']:.1f}", *(gain_cell(row, rate) for rate in RATES),
        )
        for row in rows
    ]  # fmt: skip
    return markdown_table(columns, cells)


def _prediction_table(rows: Sequence[Mapping[str, Any]]) -> str:
    at = " / ".join(f"{seconds:g}" for seconds in HORIZONS)
    columns = (
        "model",
        "latents",
        "trained on",
        "seeds",
        f"MSE / copy's at {at} s",
        f"IoU at {at} s",
        f"sharpness at {at} s",
    )
    cells = [
        (
            row["model"], row["latents"], row["trained_on"], str(row["seeds"]),
            *(
                " / ".join(f"{row[f'{metric}_{seconds:g}s']:.2f}" for seconds in HORIZONS)
                for metric in PREDICTION_METRICS
            ),
        )
        for row in rows
    ]  # fmt: skip
    return markdown_table(columns, cells)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def named(name: str, one: Interval) -> dict[str, float]:
    """Returns an interval as columns of a row."""
    return {name: one.estimate, f"{name}_low": one.low, f"{name}_high": one.high}


def rate_cell(row: Mapping[str, Any], rate: str) -> str:
    """Returns a rate with its interval [%]."""
    value, low, high = (100 * row[name] for name in (rate, f"{rate}_low", f"{rate}_high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _spread(values: Sequence[float]) -> str:
    """Returns the seeds' own rates, if there are several."""
    return f" ({', '.join(f'{100 * one:.1f}' for one in values)})" if len(values) > 1 else ""


def gain_cell(row: Mapping[str, Any], rate: str) -> str:
    """Returns what a rate is larger than the reference's, with its interval [points]."""
    if f"{rate}_gain" not in row:
        return ""
    value, low, high = (100 * row[f"{rate}_gain{end}"] for end in ("", "_low", "_high"))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(f"{one:.6g}" for one in value)
    return f"{value:.6g}" if isinstance(value, float) else value


def _identity(row: EpisodeResult) -> tuple[str, int, int]:
    return row.recording, row.vehicle_id, row.first_frame
