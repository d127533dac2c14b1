"""One raster for all of a command: whoever takes one is given `${raster}` by its configuration."""

import inspect
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import hydra.utils
import pytest
from omegaconf import OmegaConf

from worldmodel.app.compose import build, compose
from worldmodel.scene import RasterSpec

LONG = 237


def names(group: str) -> list[str]:
    found = (one.name for one in files("configs").joinpath(group).iterdir())
    return sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


COMMANDS = [
    *(("evaluate", f"agent=[{one}]") for one in names("agent")),
    *(("evaluate", f"cost={one}") for one in names("cost")),
    *(("evaluate", f"env={one}") for one in names("env")),
    *(("reinforce", f"reward={one}") for one in names("reward")),
    *(("train", f"model={one}") for one in names("model")),
    *(("train", f"policy={one}") for one in names("policy") if one != "common"),
]
FILLED = {
    "evaluate": ["checkpoint=a.pt", "policy_checkpoint=b.pt"],
    "reinforce": ["checkpoint=a.pt"],
    "train": [],
}
PLACES = ("spec", "raster", "raster_spec")


def parts(node: Any) -> Iterator[dict[str, Any]]:
    """Every part of a configuration that makes an object."""
    if isinstance(node, dict | list):
        for one in node.values() if isinstance(node, dict) else node:
            yield from parts(one)
    if isinstance(node, dict) and "_target_" in node:
        yield node


def takes(target: str) -> set[str]:
    """The arguments of a class or function that are rasters; environments pass theirs on."""
    found = inspect.signature(hydra.utils.get_object(target)).parameters
    passes_on = target.startswith("envs.") and "options" in found
    return set(PLACES) & set(found) | ({"raster_spec"} if passes_on else set())


@pytest.mark.parametrize(("command", "override"), COMMANDS)
def test_whoever_takes_a_raster_has_that_of_the_command(command: str, override: str) -> None:
    config = compose(command, ["raster=long", *FILLED[command], override])
    plain: Any = OmegaConf.to_container(config, resolve=False)
    plain.pop("raster")
    for part in parts(plain):
        for place in takes(part["_target_"]):
            assert part.get(place) == "${raster}", f"{part['_target_']} lacks {place}: ${{raster}}"


def test_the_usual_raster_is_the_one_of_the_code() -> None:
    assert build(compose("evaluate", []).raster) == RasterSpec()
    assert build(compose("evaluate", ["raster=long"]).raster) == RasterSpec(height=LONG)
