"""`worldmodel results`: the whole table of the documentation, stage by stage; see `configs/results.yaml`.

Every stage is one of our commands with a run folder of its own below `run`. Killed and started again, it goes
on; what has not changed is not done again.
"""

import sys
import time
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from threading import Lock
from typing import Any

from omegaconf import OmegaConf

from worldmodel.app.compose import Config, UsageError, compose
from worldmodel.app.pipeline import Outcome, Pipeline
from worldmodel.app.results_table import (
    as_csv,
    as_markdown,
    driving_rows,
    pictures,
    prediction_rows,
    read_drives,
)
from worldmodel.app.run import versions, write_atomic
from worldmodel.app.stage import Stage, expand, stage_of
from worldmodel.evaluation.table import write_summary

HYDRA = Lock()
"""Hydra composes one configuration at a time."""


def main(config: Config) -> None:
    """Runs what is missing; writes `results.md`, `.csv`, `.json` and a picture of each table.

    Raises:
        ValueError: a stage failed; what could be made without it is made.
    """
    stages = chosen(expand(_plain(config.stages), _plain(config.choices)), config.only)
    folder, begin = Path(config.run), time.monotonic()
    pipeline = Pipeline(
        folder, argv=process, describe=describe, jobs=config.jobs, environment=quiet(config.threads)
    )
    if config.plan:
        print(describe_plan(stages, jobs=config.jobs, done=pipeline.done(stages)))
        return
    outcomes = pipeline.run(stages)
    write_tables(config, stages, outcomes, seconds=time.monotonic() - begin)
    print(folder / "results.md")
    failed = [name for name, one in outcomes.items() if not one.is_good]
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(stages)} stages are missing, first {failed[0]} "
            f"({outcomes[failed[0]].reason}); results.md lists them. Start again to retry them"
        )


def chosen(stages: Sequence[Stage], only: str | Sequence[str] | None) -> list[Stage]:
    """Returns the stages whose names match a pattern or one of several, with all that they need, in order.

    Raises:
        UsageError: a pattern matches none, or there is no pattern.
    """
    if only is None:
        return list(stages)
    by_name = {one.name: one for one in stages}
    wanted = []
    for pattern in [only] if isinstance(only, str) else only:
        matching = [name for name in by_name if fnmatch(name, pattern)]
        if not matching:
            raise UsageError(f"only={pattern!r} matches no stage; plan=true lists them")
        wanted += matching
    if not wanted:
        raise UsageError("only=[] matches no stage; give patterns, or only=null for all")
    found: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name not in found:
            found.add(name)
            wanted += [stage_of(need) for need in by_name[name].needs.values()]
    return [one for one in stages if one.name in found]


def describe_plan(stages: Sequence[Stage], *, jobs: int, done: Collection[str] = ()) -> str:
    """Returns the stages and how long they should take, as text; `done` are those that are there already."""
    lines = [
        f"{'done' if one.name in done else f'{one.seconds:.0f} s':>9s}  {one.name}  worldmodel {one.command} "
        + " ".join(one.overrides)
        for one in stages
    ]
    total = sum(one.seconds for one in stages)
    left = sum(one.seconds for one in stages if one.name not in done)
    end = f"{len(stages)} stages, {total:.0f} s, {total / jobs / 3600:.1f} h with {jobs} at a time"
    if done:
        end += f"; {len(done)} are done, {left / jobs / 3600:.1f} h are left"
    return "\n".join([*lines, end])


def process(command: str, overrides: Sequence[str]) -> list[str]:
    """Returns the process of one of our commands."""
    return [sys.executable, "-m", "worldmodel.app.cli", command, *overrides]


def describe(command: str, overrides: Sequence[str]) -> str:
    """Returns the whole configuration of a command, sorted; what is written there decides what it does."""
    with HYDRA:
        config = compose(command, overrides)
    return OmegaConf.to_yaml(config, sort_keys=True).rstrip()


def quiet(threads: int) -> dict[str, str]:
    """Returns the environment in which a stage keeps to its threads."""
    return {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}


def write_tables(
    config: Config, stages: Sequence[Stage], outcomes: Mapping[str, Outcome], *, seconds: float
) -> None:
    """Writes the tables of what is there."""
    folder = Path(config.run)
    good = [one for one in stages if outcomes[one.name].is_good]
    driving = driving_rows(read_drives(good, folder), reference=config.reference)
    prediction = prediction_rows(good, folder)
    failed = {name: f"{one.reason} (.stages/{name}.log)" for name, one in outcomes.items() if not one.is_good}
    made = {
        "stages": len(stages),
        "missing": failed,
        "seconds_of_stages": sum(one.seconds for one in outcomes.values()),
        "seconds_of_this_run": round(seconds, 1),
        "versions": versions(),
    }
    write_summary(folder / "results.json", {"driving": driving, "prediction": prediction, "made": made})
    write_atomic(folder / "results.csv", as_csv([*driving, *prediction]))
    for table, picture in pictures(driving).items():
        write_atomic(folder / f"{table}.png", picture)
    write_atomic(folder / "results.md", _page(config, as_markdown(driving, prediction), made))


def _plain(config: Config) -> Any:
    """Returns dicts and lists, with everything filled in."""
    return OmegaConf.to_container(config, resolve=True)


def _page(config: Config, tables: str, made: Mapping[str, object]) -> str:
    failed = made["missing"]
    assert isinstance(failed, dict)
    lines = [
        "# Results",
        "",
        f"`worldmodel results run={config.run}`: {made['stages']} stages, "
        f"{made['seconds_of_stages']:.0f} s of work, {config.jobs} at a time, threads={config.threads}.",
        "",
        "Intervals: 95 %, for one seed Wilson's for what the episodes of each cluster (scene or vehicle) are "
        "worth, for several bootstrapped over seeds and clusters; the seeds' own means in parentheses. "
        f"Gained: percentage points more than {config.reference}, paired by episode, over its seeds, too.",
        "",
    ]
    if failed:
        lines += ["Missing:", "", *(f"- {name}: {reason}" for name, reason in failed.items()), ""]
    return "\n".join(lines) + "\n" + tables
