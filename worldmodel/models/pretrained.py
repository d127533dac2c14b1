"""Encoders out of other checkpoints: what self-supervision has learnt, for a forward model."""

from pathlib import Path

from torch import nn

from worldmodel.models.checkpoint import CheckpointError, load_model
from worldmodel.nn import FineTuned, Frozen


def load_encoder(path: str | Path) -> nn.Module:
    """Returns the encoder of a checkpoint of `worldmodel pretrain`, or of a forward model.

    Raises:
        CheckpointError: as `load_model`, or what is in the file has no encoder.
    """
    model = load_model(path)
    encoder = model if _is_encoder(model) else getattr(model, "encoder", None)
    if not isinstance(encoder, nn.Module) or not _is_encoder(encoder):
        raise CheckpointError(
            path,
            f"holds a {type(model).__name__}, which has no encoder of frames; expected a checkpoint of "
            "`worldmodel pretrain` or a forward model",
        )
    return encoder


def frozen_encoder(path: str | Path) -> Frozen:
    """Returns the encoder of a checkpoint, to be used as it is."""
    return Frozen(load_encoder(path))


def fine_tuned_encoder(path: str | Path, *, lr_factor: float = 0.1) -> FineTuned:
    """Returns the encoder of a checkpoint, to go on learning at `lr_factor` times the learning rate."""
    return FineTuned(load_encoder(path).train(), lr_factor=lr_factor)


def _is_encoder(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in ("features", "stride", "config"))
