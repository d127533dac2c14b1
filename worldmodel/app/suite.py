"""`worldmodel suite`: agents x levels of factors in simulated traffic; see `configs/suite.yaml`.

Every level is a scenario that differs from the base in one factor. Its scenes are simulated once, and every
agent drives the same vehicles in them: a stage of `worldmodel evaluate` for each level and agent, with a run
folder of its own below `run`. Killed and started again, it goes on; what has not changed is not done again.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from worldmodel.app import suite_report
from worldmodel.app.agents import CHECKPOINTS, key_of, with_aliases
from worldmodel.app.compose import Config, UsageError, compose
from worldmodel.app.pipeline import Outcome, Pipeline
from worldmodel.app.results import HYDRA, chosen, describe, describe_plan, process, quiet
from worldmodel.app.results_table import as_csv
from worldmodel.app.run import versions, write_atomic
from worldmodel.app.stage import Stage, expand
from worldmodel.app.suite_scene import keep_scenes, protocol_of, scenario_of, scene_folder
from worldmodel.app.suite_table import as_markdown, level_rows, read_drives
from worldmodel.evaluation.table import write_summary

BASE = "base"
"""Name of the level at which every factor is as the base has it."""
DRIVEN = ("episodes.parquet", "trajectories.parquet", "summary.json")


@dataclass(frozen=True)
class Level:
    """A scenario.

    Attributes:
        factor: what differs from the base.
        name: of the level, among the factor's.
        overrides: of `worldmodel evaluate`; none: the base.
    """

    factor: str
    name: str
    overrides: tuple[str, ...]

    @property
    def key(self) -> str:
        """Name in stages and folders; levels that are the base have one."""
        return f"{self.factor}-{self.name}" if self.overrides else BASE


def main(config: Config) -> None:
    """Simulates, drives, judges; writes `suite.md`, `suite.csv`, `suite.json` and the page.

    Raises:
        ValueError: a stage failed; what could be made without it is made.
    """
    levels = levels_of(config)
    overrides = agents_of(config)
    folder, begin = Path(config.run), time.monotonic()
    scenes = {one.key: scene_place(config, one, folder / "scenes") for one in levels}
    stages = stages_of(config, levels, overrides, scenes=scenes)
    pipeline = Pipeline(
        folder, argv=process, describe=described, jobs=config.jobs, environment=quiet(config.threads)
    )
    if config.plan:
        print(describe_plan(stages, jobs=config.jobs, done=pipeline.done(stages)))
        return
    console = Console(stderr=True)
    needed = {one.labels["level"] for one in stages}
    for key, level in {one.key: one for one in levels if one.key in needed}.items():
        console.print(f"[dim]scenes of {key}[/dim]")
        keep_scenes(scenario_of(shared_overrides(config, level)), scenes[key], config.scenes)
    outcomes = pipeline.run(stages)
    write_all(config, levels, stages, outcomes, seconds=time.monotonic() - begin)
    print(folder / (suite_report.PAGE if any(one.is_good for one in outcomes.values()) else "suite.md"))
    failed = [name for name, one in outcomes.items() if not one.is_good]
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(stages)} stages are missing, first {failed[0]} "
            f"({outcomes[failed[0]].reason}); suite.md lists them. Start again to retry them"
        )


def levels_of(config: Config) -> list[Level]:
    """Returns the levels of all factors; the base is a level of each.

    Raises:
        UsageError: no factor, or one without a base.
    """
    factors: Any = OmegaConf.to_container(config.factor) if "factor" in config else {}
    if not factors:
        raise UsageError("no factor; give factor= a list of names")
    found = []
    for factor, levels in factors.items():
        if sum(not overrides for overrides in levels.values()) != 1:
            raise UsageError(
                f"factor.{factor} has levels {', '.join(levels)}; expected exactly one without overrides, "
                "which is the base"
            )
        found += [Level(factor, str(name), tuple(overrides)) for name, overrides in levels.items()]
    return found


def agents_of(config: Config) -> dict[str, list[str]]:
    """Returns what overrides of `worldmodel evaluate` make each agent drive.

    Raises:
        UsageError: no agent, one that does not exist, or whose checkpoint was not given.
    """
    also: Any = OmegaConf.to_container(config.also)
    found = {str(name): [f"agent=[{name}]"] for name in config.get("agent", ())}
    for name, alias in also.items():
        text = ",".join(f"{key}:{value}" for key, value in alias.items())
        found[name] = ["agent=[]", f"+also.{name}={{{text}}}"]
    if not found:
        raise UsageError("no agent to drive; give agent= a list of names")
    if config.reference not in found:
        raise UsageError(f"reference={config.reference} does not drive; choose one of {', '.join(found)}")
    for name, overrides in found.items():
        read = OmegaConf.to_yaml(with_aliases(compose("evaluate", overrides)).agent)
        given = [one for one in CHECKPOINTS if f"${{{one}}}" in read]
        for one in given:
            if config[one] is None:
                raise UsageError(f"{one} is missing, which {name} reads; add {one}=... to the command")
        overrides += [f"{one}={config[one]}" for one in given]
    return found


def shared_overrides(config: Config, level: Level) -> list[str]:
    """Returns the overrides that make the scenario of a level."""
    return [*config.base, *level.overrides]


def scene_place(config: Config, level: Level, folder: Path) -> Path:
    """Returns the folder of a level's scenes."""
    scenario = OmegaConf.to_container(scenario_of(shared_overrides(config, level)), resolve=True)
    return scene_folder(folder, level.key, scenario, OmegaConf.to_container(config.scenes))


def stages_of(
    config: Config,
    levels: Iterable[Level],
    agents: Mapping[str, Sequence[str]],
    *,
    scenes: Mapping[str, Path],
) -> list[Stage]:
    """Returns a stage for each level and agent; the base is driven once."""
    protocol = protocol_of(config.scenes.seconds)
    judged = [
        "protocol=v1_once", f"protocol.name={protocol.name}", f"+protocol.min_drive={protocol.min_drive}",
    ]  # fmt: skip
    settings = [f"{name}={config[name]}" for name in ("seed", "threads", "batch_size", "num_decisions")]
    common = [*judged, *settings, "against=[]", "cluster=scene"]
    keys = {one.key: one for one in levels}
    template = {
        "command": "evaluate", "each": {"level": list(keys), "agent": list(agents)},
        "overrides": common, "outputs": DRIVEN,
    }  # fmt: skip
    choices = {
        "level": {
            key: {
                "overrides": [*shared_overrides(config, one), "data=store", f"data.path={scenes[key]}"],
                "expect": config.scenes.num * config.scenes.egos * config.scenes.seconds / STEPS,
            }
            for key, one in keys.items()
        },
        "agent": {name: {"overrides": list(overrides)} for name, overrides in agents.items()},
    }
    return chosen(expand({"drive": template}, choices), config.only)


STEPS = 20.0
"""Seconds of driving that take an agent about a second, with rasters; planners take longer."""


def described(command: str, overrides: Sequence[str]) -> str:
    """Returns the configuration of a stage, and hashes of its agents with their weights."""
    with HYDRA:
        config = with_aliases(compose(command, overrides))
    keys = [key_of(agent) for agent in config.agent.values()]
    return "\n".join([describe(command, overrides), *keys])


def write_all(
    config: Config,
    levels: Sequence[Level],
    stages: Sequence[Stage],
    outcomes: Mapping[str, Outcome],
    *,
    seconds: float,
) -> None:
    """Writes the tables and the page of what is there."""
    folder = Path(config.run)
    drives = read_drives((one for one in stages if outcomes[one.name].is_good), folder)
    rows = [
        {"factor": level.factor, "level": level.name, **row}
        for level in levels
        for row in level_rows([one for one in drives if one.level == level.key], reference=config.reference)
    ]
    failed = {name: f"{one.reason} (.stages/{name}.log)" for name, one in outcomes.items() if not one.is_good}
    made = {
        "stages": len(stages), "missing": failed, "versions": versions(),
        "seconds_of_stages": round(sum(one.seconds for one in outcomes.values()), 1),
        "seconds_of_this_run": round(seconds, 1),
    }  # fmt: skip
    write_summary(folder / "suite.json", {"rows": rows, "made": made})
    write_atomic(folder / "suite.csv", as_csv(rows))
    write_atomic(folder / "suite.md", as_markdown(rows, reference=config.reference, failed=failed))
    suite_report.write(config, rows, drives, folder=folder, made=made)
