"""Files of an evaluation: parts that survive a kill, tables, and the summary; whole or not at all.

`trajectories.parquet` has one line for each agent, episode (number) and step: the ego's state in the world,
the action that led there (zero at the hand-over), and where it was kept the plan that this action was the
first of, as a flat list of world `x, y`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from worldmodel.atomic import replacing
from worldmodel.evaluation.episode import EpisodeResult
from worldmodel.evaluation.statistics import Interval, bootstrap_mean, clustered_wilson, paired_difference

PLAN = pa.list_(pa.float32())
SIDES = ("front", "rear", "side")


@dataclass(frozen=True)
class Part:
    """What one batch of episodes gave."""

    rows: tuple[EpisodeResult, ...]
    steps: Mapping[str, Sequence[Any]]


def part_key(**contents: Any) -> str:
    """Returns a hash of everything that decides what a part holds."""
    text = json.dumps(contents, sort_keys=True, default=asdict)
    return hashlib.sha256(text.encode()).hexdigest()


def write_part(path: Path | None, key: str, part: Part) -> None:
    """Writes a part; one rename does it all: rows travel in the metadata of the trajectories."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = {"key": key, "rows": json.dumps([asdict(row) for row in part.rows])}
    table = _steps_table(part.steps).replace_schema_metadata(meta)
    with replacing(path) as stream:
        pq.write_table(table, stream)


def read_part(path: Path | None, key: str) -> Part | None:
    """Returns the part of that key, or None where there is none."""
    if path is None or not path.is_file():
        return None
    table = pq.read_table(path)
    meta = table.schema.metadata
    if meta.get(b"key", b"").decode() != key:
        return None
    rows = tuple(EpisodeResult(**row) for row in json.loads(meta[b"rows"]))
    return Part(rows, table.to_pydict())


def write_tables(folder: Path, rows: Sequence[EpisodeResult], steps: Mapping[str, Sequence[Any]]) -> None:
    """Writes `episodes.parquet`, `episodes.csv` and `trajectories.parquet` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [one.name for one in fields(EpisodeResult)]
    table = pa.table({name: [getattr(row, name) for row in rows] for name in names})
    with replacing(folder / "episodes.parquet") as stream:
        pq.write_table(table, stream)
    with replacing(folder / "episodes.csv") as stream:
        pacsv.write_csv(table, stream)
    with replacing(folder / "trajectories.parquet") as stream:
        pq.write_table(_steps_table(steps), stream)


def read_episodes(path: Path) -> list[EpisodeResult]:
    """Returns the rows of an `episodes.parquet`."""
    return [EpisodeResult(**row) for row in pq.read_table(path).to_pylist()]


def summarise(
    rows: Sequence[EpisodeResult],
    *,
    latency_ms: Mapping[str, float] | None = None,
    cluster: str = "vehicle_id",
) -> dict[str, dict[str, dict[str, int | float | None]]]:
    """Returns `{"agents": {name: {n, safe, safe_low, ..., latency_ms}}}`.

    The bounds are Wilson's, for as many trials as the episodes of each `cluster` are worth; collisions by
    side, `off_road` and `reverse` are numbers of episodes.
    """
    agents: dict[str, dict[str, int | float | None]] = {}
    for name in dict.fromkeys(row.agent for row in rows):
        mine = [row for row in rows if row.agent == name]
        safe, success = (rate_of(mine, rate, cluster=cluster) for rate in ("safe", "success"))
        agents[name] = {
            "n": len(mine),
            "safe": safe.estimate,
            "safe_low": safe.low,
            "safe_high": safe.high,
            "success": success.estimate,
            "success_low": success.low,
            "success_high": success.high,
            "distance": float(np.mean([row.distance for row in mine])),
            "mean_jerk": float(np.mean([row.mean_jerk for row in mine])),
            **{side: sum(row.collision_side == side for row in mine) for side in SIDES},
            "off_road": sum(row.off_road for row in mine),
            "reverse": sum(row.reverse for row in mine),
            "latency_ms": (latency_ms or {}).get(name),
        }
    return {"agents": agents}


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Writes a summary as JSON."""
    text = json.dumps(summary, indent=2, allow_nan=False)
    with replacing(path) as stream:
        stream.write(f"{text}\n".encode())


def compare(
    rows: Sequence[EpisodeResult],
    better: str,
    worse: str,
    *,
    field: str = "safe",
    cluster: str = "vehicle_id",
) -> Interval:
    """Returns the paired difference `better - worse` over the same episodes, bootstrapped by cluster.

    Raises:
        ValueError: if the two agents did not drive the same episodes.
    """
    pair = [{_identity(row): row for row in rows if row.agent == name} for name in (better, worse)]
    if pair[0].keys() != pair[1].keys() or not pair[0]:
        raise ValueError(
            f"{better!r} drove {len(pair[0])} episodes and {worse!r} {len(pair[1])}, expected the same ones; "
            "evaluate both together"
        )
    order = list(pair[0])
    values = [np.array([float(getattr(one[key], field)) for key in order]) for one in pair]
    return paired_difference(values[0], values[1], _clusters([pair[0][key] for key in order], cluster))


def rate_of(rows: Sequence[EpisodeResult], field: str, *, cluster: str = "vehicle_id") -> Interval:
    """Returns the share of episodes with Wilson's interval, by cluster."""
    values = np.array([float(getattr(row, field)) for row in rows])
    return clustered_wilson(values, _clusters(rows, cluster))


def mean_of(rows: Sequence[EpisodeResult], field: str, *, cluster: str = "vehicle_id") -> Interval:
    """Returns the mean of a field with its interval, bootstrapped by cluster."""
    values = np.array([float(getattr(row, field)) for row in rows])
    return bootstrap_mean(values, _clusters(rows, cluster))


def _clusters(rows: Sequence[EpisodeResult], cluster: str) -> np.ndarray:
    return np.array([f"{row.recording}:{getattr(row, cluster)}" for row in rows])


def _identity(row: EpisodeResult) -> tuple[str, int, int]:
    return row.recording, row.vehicle_id, row.first_frame


def _steps_table(steps: Mapping[str, Sequence[Any]]) -> pa.Table:
    return pa.table(
        {name: pa.array(values, PLAN) if name == "plan" else values for name, values in steps.items()}
    )
