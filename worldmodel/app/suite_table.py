"""What the agents of a suite did at each level: rows, then Markdown."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldmodel.app.compose import compose
from worldmodel.app.course import Course, make_course
from worldmodel.app.reenact import read_drives as read_actions
from worldmodel.app.reenact import reenact
from worldmodel.app.results_table import gain_cell, markdown_table, named, rate_cell
from worldmodel.app.run import write_atomic
from worldmodel.app.stage import Stage
from worldmodel.evaluation.episode import EpisodeResult
from worldmodel.evaluation.table import SIDES, compare, mean_of, rate_of, read_episodes

RATES = ("success", "safe")
FAULTS = ("ego", "other", "both")
FAULT_FILE = "faults.json"
COLUMNS = (
    "level", "agent", "n", "success [%]", "safe [%]", "distance [m]", "front / rear / side / off road",
    "fault: ego / other / both", "jerk [m/s^3]", "decision [ms]", "success gained", "safe gained",
)  # fmt: skip


@dataclass(frozen=True)
class Drives:
    """An agent at a level.

    Attributes:
        level: name of the stage's.
        rows: one for each episode, in their order.
        faults: number of an episode that ended in a collision -> whose fault it was.
        course: what was driven.
        folder: of the stage.
    """

    level: str
    agent: str
    rows: tuple[EpisodeResult, ...]
    faults: Mapping[int, str]
    latency_ms: float
    course: Course
    folder: Path

    def count(self, fault: str) -> int:
        """Returns how many collisions were somebody's fault."""
        return sum(one == fault for one in self.faults.values())


def read_drives(stages: Iterable[Stage], folder: Path) -> list[Drives]:
    """Returns what finished stages hold; whose fault collisions were is found out by driving them again."""
    found, courses = [], dict[str, Course]()
    for stage in stages:
        level, agent, place = stage.labels["level"], stage.labels["agent"], folder / stage.name
        if level not in courses:
            courses[level] = make_course(compose(stage.command, stage.overrides))
        course = courses[level]
        rows = read_episodes(place / "episodes.parquet")
        summary = json.loads((place / "summary.json").read_text(encoding="utf-8"))
        faults = find_faults(course, rows, place, agent=agent)
        latency = summary["agents"][agent]["latency_ms"]
        found.append(Drives(level, agent, tuple(rows), faults, latency, course, place))
    return found


def find_faults(course: Course, rows: Sequence[EpisodeResult], folder: Path, *, agent: str) -> dict[int, str]:
    """Returns whose fault each collision was, and keeps it with the drives."""
    path = folder / FAULT_FILE
    if not path.exists():
        numbers = [number for number, row in enumerate(rows) if row.outcome == "collision"]
        again = reenact(course, numbers, read_actions(folder / "trajectories.parquet", agent, numbers))
        found = {number: one.fault.name.lower() for number, one in zip(numbers, again, strict=True)}
        write_atomic(path, json.dumps(found) + "\n")
    kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return {int(number): fault for number, fault in kept.items()}


def level_rows(drives: Sequence[Drives], *, reference: str) -> list[dict[str, Any]]:
    """Returns one row for each agent of a level, with paired differences to the agent `reference`."""
    rivals = [one for one in drives if one.agent == reference]
    return [_row(one, rivals[0] if rivals else None) for one in drives]


def _row(one: Drives, rival: Drives | None) -> dict[str, Any]:
    rows = one.rows
    found: dict[str, Any] = {
        "agent": one.agent, "n": len(rows), "scenes": len({row.recording for row in rows}),
    }  # fmt: skip
    for rate in RATES:
        found |= named(rate, rate_of(rows, rate, cluster="scene"))
    found |= named("distance", mean_of(rows, "distance", cluster="scene"))
    found |= {side: sum(row.collision_side == side for row in rows) for side in SIDES}
    found["off_road"] = sum(row.outcome == "off_road" for row in rows)
    found |= {f"fault_{fault}": one.count(fault) for fault in FAULTS}
    found |= named("jerk", mean_of(rows, "mean_jerk", cluster="scene"))
    found["latency_ms"] = one.latency_ms
    if rival is not None and rival is not one:
        for rate in RATES:
            both = [*rows, *rival.rows]
            gain = compare(both, one.agent, rival.agent, field=rate, cluster="scene")
            found |= named(f"{rate}_gain", gain)
    return found


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns a row as the tables show it, under `COLUMNS`."""
    return (
        row["level"], row["agent"], str(row["n"]), *(rate_cell(row, rate) for rate in RATES),
        f"{row['distance']:.0f} [{row['distance_low']:.0f}, {row['distance_high']:.0f}]",
        " / ".join(str(row[name]) for name in (*SIDES, "off_road")),
        " / ".join(str(row[f"fault_{name}"]) for name in FAULTS),
        f"{row['jerk']:.1f}", f"{row['latency_ms']:.1f}", *(gain_cell(row, rate) for rate in RATES),
    )  # fmt: skip


def legend(reference: str) -> str:
    """Returns what the columns mean."""
    return (
        "Rates with Wilson's 95 % intervals, distances and gains with bootstrapped ones, all by scene. Sides "
        "and faults are numbers of episodes. Gained: percentage points more than "
        f"{reference}, paired by episode. Fault: who came into line with the other in the last three "
        "seconds, and if neither did, who was behind (`worldmodel/evaluation/fault.py`). "
        "Decision: one scene, one thread."
    )


def as_markdown(rows: Sequence[Mapping[str, Any]], *, reference: str, failed: Mapping[str, str]) -> str:
    """Returns one table for each factor."""
    parts = ["# Suite", legend(reference)]
    if failed:
        parts.append("\n".join(["Missing:", "", *(f"- {name}: {reason}" for name, reason in failed.items())]))
    for factor in dict.fromkeys(row["factor"] for row in rows):
        mine = [cells(row) for row in rows if row["factor"] == factor]
        parts.append(f"## {factor.capitalize()}\n\n{markdown_table(COLUMNS, mine)}")
    return "\n\n".join(parts) + "\n"
