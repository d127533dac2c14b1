"""World models of traffic: learn to predict what other road users do, and plan with the prediction.

This package imports nothing heavy; `load` pulls in torch when it is called.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["__version__", "load"]

__version__ = "0.1.0"


def load(path: str | Path, *, device: "torch.device | str | None" = None) -> "nn.Module":
    """Returns the model saved at `path`: weights, config, normalisation and raster spec in one file.

    Args:
        device: where to; torch's default device when left out.

    Raises:
        CheckpointError: the file is missing, truncated, or no model of ours.
    """
    from worldmodel.models import load_model

    return load_model(path, device=device)
