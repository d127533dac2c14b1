"""What can be known to be wrong before anything is driven."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from worldmodel.app.agents import CHECKPOINTS, needed_by, wanted_pairs, weights_of
from worldmodel.app.compose import Config, UsageError, compose, is_for, require, targets
from worldmodel.app.course import Course
from worldmodel.evaluation.truth import Knowing
from worldmodel.models import CheckpointError, CoupledModel, ForwardModel, load_model
from worldmodel.models.checkpoint import plain
from worldmodel.scene import RasterSpec

CLUSTERS = ("vehicle_id", "scene")
LOAD = "worldmodel.load"


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


def check_device(name: str) -> None:
    """Checks that there is such a device.

    Raises:
        UsageError: in torch's words.
    """
    try:
        torch.zeros(1, device=name).tolist()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"device={name}: {str(error).partition('. ')[0]}") from error


def check_drawing(path: Path, course: Course) -> None:
    """Checks that what is seen on the course is what the model of a checkpoint reads.

    Raises:
        CheckpointError: other rasters, or another history, saying how the course would draw them.
    """
    model = load_model(path)
    check_raster(path, model, course.spec)
    history = course.env.keywords.get("history")
    if isinstance(model, ForwardModel | CoupledModel) and history not in (None, model.history):
        raise CheckpointError(
            path, f"reads {model.history} frames of history, the course has {history}; "
            f"add env.history={model.history}"
        )  # fmt: skip


def check_raster(path: Path, model: Any, drawn: RasterSpec) -> None:
    """Checks that a model reads the rasters that it is going to be shown.

    Raises:
        CheckpointError: others, saying how to draw them.
    """
    spec = getattr(model, "spec", drawn)  # that of modules which read no rasters is any
    if spec != drawn:
        keys = " ".join(raster_overrides(spec, drawn))
        raise CheckpointError(path, f"was trained on rasters {spec}, here they are {drawn}; add {keys}")


def raster_overrides(spec: RasterSpec, drawn: RasterSpec) -> list[str]:
    """Returns the overrides with which a command draws `spec` instead of `drawn`."""
    wanted, given = plain(spec), plain(drawn)
    wanted["channels"] = f"[{','.join(wanted['channels']).lower()}]"
    given["channels"] = f"[{','.join(given['channels']).lower()}]"
    return [f"raster.{key}={value}" for key, value in wanted.items() if value != given[key]]


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


def check_knowledge(config: Config, course: Course) -> None:
    """Checks that the environment knows what privileged agents ask it for.

    Raises:
        UsageError: naming the agents, and where they can drive.
    """
    needed = {name: needed_by(OmegaConf.to_container(part)) for name, part in config.agent.items()}
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
