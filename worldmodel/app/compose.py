"""Configurations: composed from the package `configs`, checked, and turned into objects."""

import inspect
import os
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import hydra.utils
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

Config: TypeAlias = Any
"""An `omegaconf.DictConfig`; not named so, because its base class makes beartype warn."""


SEARCHPATH, SEARCH = "hydra.searchpath=", "WORLDMODEL_SEARCHPATH"
"""An override, and the variable of the environment that holds it while a command with it runs."""


class UsageError(ValueError):
    """The command line asks for something that does not exist."""


def compose(name: str, overrides: Sequence[str] = ()) -> Config:
    """Returns `configs/<name>.yaml` with the overrides.

    Files are looked for where the command's own `hydra.searchpath=` says, too, also by its stages' processes.

    Raises:
        UsageError: with Hydra's message, when an override is unknown or malformed.
    """
    searched = [os.environ[SEARCH]] if SEARCH in os.environ else []
    if any(one.startswith(SEARCHPATH) for one in overrides):
        searched = []
    try:
        with initialize_config_module(config_module="configs", version_base="1.3"):
            return hydra_compose(config_name=name, overrides=[*searched, *overrides])
    except MissingConfigException as error:
        raise UsageError(f"{error.missing_cfg_file} does not exist{_choices(error)}") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(" ".join(str(error).split())) from error


def show(config: Config) -> str:
    """Returns the configuration as YAML, interpolations as written."""
    return OmegaConf.to_yaml(config).rstrip()


def require(config: Config, *names: str) -> None:
    """Checks that values without a default were given.

    Raises:
        UsageError: naming what to add to the command line.
    """
    for name in names:
        if OmegaConf.is_missing(config, name):
            raise UsageError(f"{name} is missing; add {name}=... to the command")


COUNTS = ("threads", "windows", "jobs", "batch_size", "num_decisions", "scored_rows")
"""Values that are whole numbers from one on, wherever a command has them."""


def check_numbers(config: Config) -> None:
    """Checks what most commands have: counts, the seed, the budget, and that the optimiser is values.

    Raises:
        UsageError: naming the first that is out of range.
    """
    for name in COUNTS:
        count = _value(config, name, 1)
        if type(count) is not int or count < 1:
            raise UsageError(f"{name}={count}, expected a whole number, at least 1")
    seed = _value(config, "seed", 0)
    if type(seed) is not int or seed < 0:
        raise UsageError(f"seed={seed}, expected a whole number, at least 0")
    seconds = _value(config, "seconds", 1)
    if not OmegaConf.is_list(seconds) and not (type(seconds) in (int, float) and seconds > 0):
        raise UsageError(f"seconds={seconds}, expected more than 0, or null for no limit")
    optimizer = _value(config, "optimizer", {})
    if isinstance(optimizer, str):
        raise UsageError(f"optimizer={optimizer}, but it is AdamW; set its values, as optimizer.lr=0.001")


def _value(config: Config, name: str, default: Any) -> Any:
    """Returns the default where there is no value, too."""
    found = None if OmegaConf.is_missing(config, name) else config.get(name)
    return default if found is None else found


def with_values(config: Config, **values: Any) -> Config:
    """Returns a copy of the configuration with some of its values set."""
    return OmegaConf.merge(config, values)


def with_objects(config: Config, **objects: Any) -> Config:
    """Returns a copy of the configuration in which `${name}` stands for an object that exists already."""
    return OmegaConf.merge(OmegaConf.create(objects, flags={"allow_objects": True}), config)


def build(config: Any, **arguments: Any) -> Any:
    """Returns the object that a configuration with `_target_` describes; lists and dicts as plain ones."""
    return hydra.utils.instantiate(config, _convert_="all", **arguments)


def targets(node: Any) -> Iterator[Any]:
    """Yields the classes and functions that a configuration, as plain dicts and lists, makes objects of.

    Raises:
        UsageError: there is no such class or function.
    """
    if isinstance(node, dict | list):
        for one in node.values() if isinstance(node, dict) else node:
            yield from targets(one)
    if isinstance(node, dict) and "_target_" in node:
        try:
            yield hydra.utils.get_object(node["_target_"])
        except (ImportError, ValueError) as error:
            raise UsageError(f"_target_: {node['_target_']} does not exist: {error}") from error


def is_for(value: Any, target: Any, name: str) -> bool:
    """Returns whether a value is of the class that `target` says its argument `name` is of, if it says so."""
    try:
        parameters = inspect.signature(target).parameters
        return name not in parameters or isinstance(value, parameters[name].annotation)
    except (TypeError, ValueError):  # annotations that are texts or have no instances, code without any
        return True


def _choices(error: MissingConfigException) -> str:
    group, _, _ = str(error.missing_cfg_file).rpartition("/")
    more = re.findall(r"path=file://(\S+)", str(error))  # of the search path
    folders = [files("configs").joinpath(group), *(Path(one) / group for one in more)]
    found = [one.name for folder in folders if folder.is_dir() for one in folder.iterdir()]
    names = sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))
    return f"; {group} is one of {', '.join(names)}" if group and names else ""
