"""`worldmodel evaluate`: agents x episodes -> one row each, rates with intervals, paired comparisons."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from worldmodel.app.agents import key_of, make_agents, wanted_pairs, with_aliases
from worldmodel.app.compose import Config
from worldmodel.app.course import Course, make_course
from worldmodel.app.precheck import check_agents, check_device, check_pairs
from worldmodel.app.run import Run
from worldmodel.evaluation.statistics import Interval
from worldmodel.evaluation.suite import EpisodeResult, Results, evaluate, measure_latency, to_obs
from worldmodel.evaluation.table import compare, summarise
from worldmodel.evaluation.truth import Truth

SUMMARY = "summary.json"
LATENCY = "latency.json"
RATES = ("safe", "success")


def main(config: Config) -> None:
    """Drives, judges, prints the table."""
    torch.set_num_threads(config.threads)
    check_device(config.device)
    config = with_aliases(config)
    course = make_course(config)
    check_agents(config, course)
    unpaired = check_pairs(config)
    run = Run.start(config, "evaluate")
    if unpaired:
        run.console.print(f"no paired differences: {unpaired}", highlight=False, markup=False)
    with run.timed("drive"):
        results = drive(config, course, run)
    run.stage("latency", lambda: time_decisions(config, course, run), files=(LATENCY,))
    summary = summary_of(config, course, results.rows, latency=read_latency(run))
    run.write(SUMMARY, summary)
    print_summary(summary)
    run.close()


def drive(config: Config, course: Course, run: Run, *, keep_plans: Sequence[int] = ()) -> Results:
    """Drives every agent through every episode; what an earlier run of the folder has driven is read."""
    truth = Truth()
    agents = make_agents(config, truth)
    with _progress(run.console) as bars:
        tasks = {name: bars.add_task(name, total=len(course.episodes)) for name in agents}
        return evaluate(
            agents,
            course.make_env,
            course.episodes,
            recordings=course.store.recordings,
            protocol=course.protocol,
            folder=run.folder,
            keys={name: key_of(config.agent[name]) for name in agents},
            env_key=key_of(config.env),
            seed=config.seed,
            batch_size=config.batch_size,
            keep_plans=keep_plans,
            progress=lambda name, done, total: bars.update(tasks[name], completed=done),
            truth=truth,
        )


def time_decisions(config: Config, course: Course, run: Run) -> None:
    """Writes how long one decision for one scene takes on one thread [ms], agent by agent.

    Every decision is for another scene, so that none can be read off an earlier plan.
    """
    num_scenes = config.num_decisions + 3
    env = course.make_env(num_scenes)
    numbers = np.arange(num_scenes)
    observation, info = env.reset(options={"episode": numbers % len(course.episodes)})
    obs = to_obs(observation, info, scene=numbers)
    truth = Truth()
    truth.watch(env, numbers)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = {
            name: measure_latency(agent, obs, num_decisions=config.num_decisions)
            for name, agent in make_agents(config, truth).items()
        }
    finally:
        torch.set_num_threads(threads)
        env.close()
    run.write(LATENCY, found)


def read_latency(run: Run) -> dict[str, float]:
    """Returns what `time_decisions` wrote."""
    found: dict[str, float] = json.loads((run.folder / LATENCY).read_text(encoding="utf-8"))
    return found


def summary_of(
    config: Config, course: Course, rows: Sequence[EpisodeResult], *, latency: Mapping[str, float]
) -> dict[str, Any]:
    """Returns what `summary.json` holds."""
    pairs = {
        f"{one} - {other}": {rate: _as_dict(difference) for rate, difference in differences.items()}
        for (one, other), differences in paired(config, rows).items()
    }
    return {
        **summarise(rows, latency_ms=latency, cluster=config.cluster),
        "paired": pairs,
        "paired_cluster": config.cluster,
        "protocol": course.protocol.name,
        "protocol_key": course.protocol.key,
        "episodes": len(course.episodes),
        "recordings": [one.name for one in course.store.recordings],
    }


def paired(config: Config, rows: Sequence[EpisodeResult]) -> dict[tuple[str, str], dict[str, Interval]]:
    """Returns `{(one, other): {rate: one - other}}` for the agents to be compared that were driven."""
    names = {row.agent for row in rows}
    return {
        (one, other): {rate: compare(rows, one, other, field=rate, cluster=config.cluster) for rate in RATES}
        for one, other in wanted_pairs(config)
        if {one, other} <= names
    }


def print_summary(summary: Mapping[str, Any]) -> None:
    """Prints the two tables."""
    console = Console()
    table = Table(
        Column("agent", no_wrap=True), title=f"{summary['episodes']} episodes, protocol {summary['protocol']}"
    )
    for column in ("safe %", "success %", "m driven", "ms"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in summary["agents"].items():
        rates = [_rate(row, rate) for rate in RATES]
        latency = "-" if row["latency_ms"] is None else f"{row['latency_ms']:.1f}"
        table.add_row(name, *rates, f"{row['distance']:.1f}", latency)
    console.print(table)
    if summary["paired"]:
        by = summary["paired_cluster"].removesuffix("_id")
        table = Table(Column("paired difference", no_wrap=True), title=f"points, 95 % interval by {by}")
        for rate in RATES:
            table.add_column(rate, justify="right", no_wrap=True)
        for name, rates in summary["paired"].items():
            table.add_row(name, *(_points(rates[rate]) for rate in RATES))
        console.print(table)


def _as_dict(one: Interval) -> dict[str, float]:
    return {"difference": one.estimate, "low": one.low, "high": one.high}


def _rate(row: Mapping[str, Any], rate: str) -> str:
    low, high = (100 * row[f"{rate}_{end}"] for end in ("low", "high"))
    return f"{100 * row[rate]:.1f} [{low:.0f}, {high:.0f}]"


def _points(one: Mapping[str, float]) -> str:
    return f"{100 * one['difference']:+.1f} [{100 * one['low']:+.1f}, {100 * one['high']:+.1f}]"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:16s}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console,
    )  # fmt: skip
