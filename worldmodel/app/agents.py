"""The agents of a configuration: other names for them, what they need, read and are."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from worldmodel.app.compose import Config, UsageError, build, compose, targets, with_objects
from worldmodel.evaluation.on_device import OnDevice
from worldmodel.evaluation.truth import Truth
from worldmodel.protocols import Knowledge, Planner, Privileged

CHECKPOINTS = ("checkpoint", "policy_checkpoint")
"""Values of the configuration that agents read weights from."""
WEIGHTS = ".pt"


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


def make_agents(config: Config, truth: Truth) -> dict[str, Planner]:
    """Returns the agents, those that are privileged with the truth in their hands.

    On `config.device`, where a command has one; on the CPU otherwise.
    """
    told, device = with_objects(config, truth=truth), torch.device(config.get("device", "cpu"))
    with device:  # where models are loaded to
        agents = {name: build(part) for name, part in told.agent.items()}
    return agents if device.type == "cpu" else {name: OnDevice(one, device) for name, one in agents.items()}


def needed_by(node: Any) -> set[Knowledge]:
    """Returns what an agent's configuration, as plain dicts and lists, asks of the environment."""
    return {one for part in targets(node) if isinstance(part, Privileged) for one in part.needs}


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


def wanted_pairs(config: Config) -> list[tuple[str, str]]:
    """Returns the names of agents to be compared, whether they drive or not."""
    pairs = [(config.ours, other) for other in config.against]
    return pairs + [(one, other) for one, other in config.get("pairs", ())]


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
