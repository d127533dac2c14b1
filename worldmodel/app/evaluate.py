"""`worldmodel evaluate`: agents x episodes -> one row each, rates with intervals, paired comparisons."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from worldmodel.app.compose import Config, UsageError, build, compose, is_for, require, targets, with_objects
from worldmodel.app.run import Run
from worldmodel.data import Store
from worldmodel.evaluation.protocol import Episode, Protocol, episodes, spread
from worldmodel.evaluation.statistics import Interval
from worldmodel.evaluation.suite import EpisodeResult, Results, evaluate, measure_latency, to_obs
from worldmodel.evaluation.table import compare, summarise
from worldmodel.evaluation.truth import Knowing, Truth
from worldmodel.models import CheckpointError, CoupledModel, ForwardModel, load_model
from worldmodel.models.checkpoint import plain
from worldmodel.protocols import Knowledge, Planner, Privileged
from worldmodel.scene import RasterSpec, Renderer

SUMMARY = "summary.json"
LATENCY = "latency.json"
RATES = ("safe", "success")
CLUSTERS = ("vehicle_id", "scene")
CHECKPOINTS = ("checkpoint", "policy_checkpoint")
"""Values of the configuration that agents read weights from."""
WEIGHTS, LOAD = ".pt", "worldmodel.load"


def main(config: Config) -> None:
    """Drives, judges, prints the table."""
    torch.set_num_threads(config.threads)
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


@dataclass(frozen=True)
class Course:
    """What every agent drives.

    Attributes:
        env: recordings, episodes, number of slots -> environment, as `configs/env` describes it.
    """

    store: Store
    episodes: tuple[Episode, ...]
    protocol: Protocol
    env: Any

    @property
    def spec(self) -> RasterSpec:
        """Of the rasters that the agents see."""
        found: RasterSpec = self.env.keywords.get("raster_spec", RasterSpec())
        return found

    @cached_property
    def renderers(self) -> tuple[Renderer, ...]:
        return tuple(Renderer(one, self.spec) for one in self.store.recordings)

    def make_env(self, num_envs: int) -> VectorEnv:
        """Returns the environment with `num_envs` slots; all share the renderers."""
        made: VectorEnv = self.env(
            self.store.recordings, self.episodes, num_envs,
            protocol=self.protocol, renderers=self.renderers, autoreset_mode="Disabled",
        )  # fmt: skip
        return made


def make_course(config: Config) -> Course:
    """Returns the episodes of `config.part`.

    Raises:
        UsageError: when the split has no such part, or the part is empty.
    """
    store: Store = build(config.data)
    spans = getattr(store.split, config.part, None)
    if not spans:
        raise UsageError(
            f"the split has no frames for {config.part!r}; give part= one of train, val, test that has some"
        )
    protocol: Protocol = build(config.protocol)
    found = spread(episodes(store.recordings, spans, protocol=protocol), config.max_episodes)
    return Course(store, tuple(found), protocol, build(config.env))


def check_agents(config: Config, course: Course) -> None:
    """Checks what can be known before anything is driven.

    Raises:
        UsageError: no agent, a paired comparison that cannot be made, no checkpoint given, or an agent that
            asks for what the environment does not know.
        CheckpointError: the checkpoint cannot be used, or was trained on other rasters than the course's.
    """
    if "agent" not in config:  # Hydra leaves an empty group out
        raise UsageError("no agent to evaluate; give agent= a list of names")
    if config.cluster not in CLUSTERS:
        raise UsageError(f"cluster={config.cluster!r}, expected one of {', '.join(CLUSTERS)}")
    for name in CHECKPOINTS:
        if f"${{{name}}}" in OmegaConf.to_yaml(config.agent):
            require(config, name)
    for path in sorted({path for one in config.agent.values() for path in weights_of(one)}):
        check_drawing(path, course)
    check_loaded(OmegaConf.to_container(config.agent, resolve=True))
    check_knowledge(config, course)


def check_drawing(path: Path, course: Course) -> None:
    """Checks that what is seen on the course is what the model of a checkpoint reads.

    Raises:
        CheckpointError: other rasters, or another history, saying how the course would draw them.
    """
    model = load_model(path)
    spec = getattr(model, "spec", course.spec)  # that of modules which read no rasters is any
    if spec != course.spec:
        keys = " ".join(raster_overrides(spec))
        raise CheckpointError(
            path, f"was trained on rasters {spec}, the course has {course.spec}; add {keys}"
        )
    history = course.env.keywords.get("history")
    if isinstance(model, ForwardModel | CoupledModel) and history not in (None, model.history):
        raise CheckpointError(
            path, f"reads {model.history} frames of history, the course has {history}; "
            f"add env.history={model.history}"
        )  # fmt: skip


def raster_overrides(spec: RasterSpec) -> list[str]:
    """Returns the overrides with which an environment draws these rasters."""
    usual, fields = plain(RasterSpec()), plain(spec)
    fields["channels"] = f"[{','.join(fields['channels']).lower()}]"
    usual["channels"] = f"[{','.join(usual['channels']).lower()}]"
    target = f"_target_={fields.pop('_target_')}"
    return [
        f"+env.raster_spec.{one}"
        for one in (target, *(f"{key}={value}" for key, value in fields.items() if value != usual[key]))
    ]


def check_loaded(node: Any) -> None:
    """Checks that checkpoints hold what those expect that they are loaded for.

    Args:
        node: configuration as plain dicts and lists, everything filled in.

    Raises:
        UsageError: naming the checkpoint, what it holds and who does not want it.
    """
    if isinstance(node, dict | list):
        for one in node.values() if isinstance(node, dict) else node:
            check_loaded(one)
    if not isinstance(node, dict) or "_target_" not in node:
        return
    (target, *_) = targets({"_target_": node["_target_"]})
    for name, part in node.items():
        if isinstance(part, dict) and part.get("_target_") == LOAD:
            model = load_model(part["path"])
            if not is_for(model, target, name):
                held = f"{part['path']} holds a {type(model).__name__}"
                raise UsageError(
                    f"{held}, which is no {name} of {target.__name__}; "
                    "a training with policy= leaves a policy in policy.pt, one without a model in model.pt"
                )


def check_pairs(config: Config) -> str:
    """Returns why agents that drive are not compared in pairs; nothing where some are, or none were to be.

    Raises:
        UsageError: one of those to be compared neither drives nor is an agent.
    """
    names, wanted = set(config.agent), wanted_pairs(config)
    for name in sorted({name for pair in wanted for name in pair} - names):
        try:
            compose("evaluate", [f"agent=[{name}]"])
        except UsageError as error:
            raise UsageError(f"{name!r} in ours=, against= or pairs= does not drive: {error}") from error
    if len(names) < 2 or not wanted or any({*pair} <= names for pair in wanted):
        return ""
    if config.ours not in names:
        return f"ours={config.ours} does not drive; set ours= to one of {', '.join(config.agent)}"
    return f"nobody in against=[{','.join(config.against)}] drives beside ours={config.ours}"


def check_knowledge(config: Config, course: Course) -> None:
    """Checks that the environment knows what privileged agents ask it for.

    Raises:
        UsageError: naming the agents, and where they can drive.
    """
    needed = {name: needed_by(_plain(part)) for name, part in config.agent.items()}
    if not any(needed.values()):
        return
    env = course.make_env(1).unwrapped
    known = env.knows if isinstance(env, Knowing) else frozenset()
    missing = [f"{name} asks {one}" for name, wanted in needed.items() for one in sorted(wanted - known)]
    if missing:
        raise UsageError(
            f"{type(env).__name__} does not know what agents ask: {'; '.join(missing)}; leave them out, or "
            "choose another env="
        )


def needed_by(node: Any) -> set[Knowledge]:
    """Returns what an agent's configuration, as plain dicts and lists, asks of the environment."""
    return {one for part in targets(node) if isinstance(part, Privileged) for one in part.needs}


def with_aliases(config: Config) -> Config:
    """Returns the configuration with the agents of `also`: new names, checkpoints of their own.

    `also.NAME={like: AGENT, checkpoint: FILE, ...}` is the agent of `configs/agent` with these values in
    place of the run's.

    Raises:
        UsageError: no such agent, or one that does not read such a value.
    """
    if not config.also:
        return config
    agents = _plain(config.agent) if "agent" in config else {}
    for name, alias in config.also.items():
        values = dict(alias)
        like = values.pop("like", None)
        if like is None:
            raise UsageError(f"also.{name} is like no agent; write also.{name}={{like:AGENT,...}}")
        template = _plain(compose("evaluate", [f"agent=[{like}]"]).agent)[like]
        for key, value in values.items():
            if f"${{{key}}}" not in json.dumps(template):
                raise UsageError(f"also.{name}.{key}: the agent {like} does not read {key}")
            template = _replaced(template, f"${{{key}}}", value)
        agents[name] = template
    return OmegaConf.merge(
        {key: value for key, value in config.items_ex(False) if key != "agent"}, {"agent": agents}
    )


def _plain(config: Config) -> Any:
    """Returns dicts and lists, interpolations as written."""
    return OmegaConf.to_container(config)


def _replaced(node: Any, text: str, value: Any) -> Any:
    """Returns a configuration with a value in place of the strings that are `text`."""
    if isinstance(node, dict):
        return {key: _replaced(one, text, value) for key, one in node.items()}
    if isinstance(node, list):
        return [_replaced(one, text, value) for one in node]
    return value if node == text else node


def weights_of(part: Config) -> list[Path]:
    """Returns the files of weights that the configuration of an agent or environment names."""

    def paths(node: Any) -> Iterator[Path]:
        if isinstance(node, dict | list):
            for one in node.values() if isinstance(node, dict) else node:
                yield from paths(one)
        elif isinstance(node, str) and node.endswith(WEIGHTS):
            yield Path(node)

    return list(paths(OmegaConf.to_container(part, resolve=True)))


def key_of(part: Config) -> str:
    """Returns a hash of the configuration of an agent or environment and, where it has any, its weights."""
    text = json.dumps(OmegaConf.to_container(part, resolve=True), sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for path in weights_of(part):
        digest.update(path.read_bytes())
    return digest.hexdigest()


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


def make_agents(config: Config, truth: Truth) -> dict[str, Planner]:
    """Returns the agents, those that are privileged with the truth in their hands."""
    told = with_objects(config, truth=truth)
    return {name: build(part) for name, part in told.agent.items()}


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


def wanted_pairs(config: Config) -> list[tuple[str, str]]:
    """Returns the names of agents to be compared, whether they drive or not."""
    pairs = [(config.ours, other) for other in config.against]
    return pairs + [(one, other) for one, other in config.get("pairs", ())]


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
