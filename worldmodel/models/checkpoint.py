"""One file holds a model: weights, config, normalisation (buffers), raster spec and cost statistics.

Loading needs no other file, no Hydra and no unpickling (`weights_only=True`). Any `nn.Module` can be saved
whose `config` names the class (`_target_`) and its arguments: world models, policies, and their parts.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from worldmodel.atomic import replacing
from worldmodel.models.forward_model import ForwardModel
from worldmodel.scene import Channel, RasterSpec

FORMAT = "highway-worldmodel/forward-model"
VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint cannot be used: the message names the file, what was found and what was expected."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


def save_model(module: nn.Module, path: str | Path, *, extra: Mapping[str, Any] | None = None) -> None:
    """Writes `module` to `path`, atomically.

    Args:
        module: offers `config`, from which `build` makes the same module again.
        extra: plain numbers, strings, lists and dicts kept beside the weights (training run, statistics).
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "config": plain(module.config),
        "state_dict": module.state_dict(),
        "extra": dict(extra or {}),
    }
    with replacing(path) as stream:
        torch.save(content, stream)


def load_model(
    path: str | Path, *, device: torch.device | str | None = None, spec: RasterSpec | None = None
) -> nn.Module:
    """Returns the module saved at `path`, in eval mode.

    Args:
        device: where to; torch's default device when left out.
        spec: rasters it is going to be fed; refused if they are not those it was trained on. Modules
            without a `spec` read no rasters and accept any.

    Raises:
        CheckpointError: missing, truncated or foreign file, or another raster.
    """
    content = read_checkpoint(path)
    try:
        module = build(content["config"])
        module.load_state_dict(content["state_dict"])
    except ModuleNotFoundError as error:
        raise CheckpointError(path, str(error)) from error
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, ImportError) as error:
        raise CheckpointError(
            path, f"its config and weights do not fit this version of the code ({error})"
        ) from error
    assert isinstance(module, nn.Module)
    trained_on = getattr(module, "spec", spec)
    if spec is not None and spec != trained_on:
        raise CheckpointError(
            path, f"was trained on rasters {trained_on}, got {spec}; draw them with the checkpoint's own spec"
        )
    return module.to(device or torch.get_default_device()).eval()


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Gives all parameters of `module` the values that they have in a checkpoint.

    The checkpoint may have more, such as a latent's; what is no parameter (statistics) is left as it is.

    Raises:
        CheckpointError: missing, truncated or foreign file, or some parameters are not in it, or other ones.
    """
    held = read_checkpoint(path)["state_dict"]
    with torch.no_grad():
        for name, weight in module.named_parameters():
            found = tuple(held[name].shape) if name in held else "no such weight"
            if found != tuple(weight.shape):
                wrong = f"{name}: got {found}, expected {tuple(weight.shape)}"
                raise CheckpointError(path, f"{wrong}; begin with a model of the same kind and sizes")
            weight.copy_(held[name])


def save_forward_model(
    model: ForwardModel, path: str | Path, *, extra: Mapping[str, Any] | None = None
) -> None:
    """Writes `model` to `path`: `save_model`."""
    save_model(model, path, extra=extra)


def load_forward_model(
    path: str | Path, *, device: torch.device | str | None = None, spec: RasterSpec | None = None
) -> ForwardModel:
    """Returns the forward model saved at `path`, in eval mode: `load_model`, and nothing else will do.

    Raises:
        CheckpointError: as `load_model`, or the file holds another kind of model.
    """
    model = load_model(path, device=device, spec=spec)
    if not isinstance(model, ForwardModel):
        raise CheckpointError(
            path, f"holds a {type(model).__name__}, expected a ForwardModel; load it with `worldmodel.load`"
        )
    return model


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Returns the checked content of a checkpoint file, its tensors on the CPU.

    Raises:
        CheckpointError: missing, truncated or foreign file, or one of a newer version.
    """
    if Path(path).is_dir():
        meant = " or ".join(str(one) for one in sorted(Path(path).glob("*.pt"))) or "a file in another one"
        raise CheckpointError(path, f"is a folder; did you mean {meant}?")
    if not Path(path).is_file():
        raise CheckpointError(path, "no such file; train a model with `worldmodel train` first")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types here, all meaning the same to the user
        raise CheckpointError(
            path, f"not a readable checkpoint, perhaps cut short ({type(error).__name__})"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(path, f"not a model of ours (expected format {FORMAT!r})")
    if content["version"] != VERSION:
        raise CheckpointError(
            path, f"has version {content['version']}, this code reads {VERSION}; update the code"
        )
    return content


def plain(value: Any) -> Any:
    """Returns a config as dicts, lists and numbers."""
    if isinstance(value, RasterSpec):
        fields = dataclasses.asdict(value)
        fields["channels"] = [channel.name for channel in value.channels]
        return {"_target_": "worldmodel.scene.RasterSpec", **fields}
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def build(config: Any) -> Any:
    """Returns what a plain config describes; only modules and raster specs are ever called."""
    if isinstance(config, list):
        return [build(part) for part in config]
    if not isinstance(config, Mapping):
        return config
    if "_target_" not in config:
        return {key: build(part) for key, part in config.items()}
    module, _, name = config["_target_"].rpartition(".")
    try:
        target = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"holds a {config['_target_']}, which cannot be imported ({error}); put its folder on PYTHONPATH",
            name=error.name,
        ) from error
    kwargs = {key: build(part) for key, part in config.items() if key != "_target_"}
    if target is RasterSpec:
        kwargs["channels"] = tuple(Channel[name] for name in kwargs["channels"])
    elif not (isinstance(target, type) and issubclass(target, nn.Module)):
        raise TypeError(f"{config['_target_']} is not a torch module")
    return target(**kwargs)
