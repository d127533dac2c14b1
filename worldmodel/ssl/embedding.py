"""An encoder's map as a vector, without losing where things are."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import encode


def embed(
    encoder: nn.Module, frames: Float[Tensor, "B T C H W"], *, grid: tuple[int, int] = (10, 3)
) -> Float[Tensor, "B D"]:
    """Returns the maps of all frames, averaged over the patches of a grid: `D = T F rows columns`.

    Args:
        grid: rows and columns of patches, at most those of the map.
    """
    cells = encode(encoder, frames.flatten(0, 1))
    return pooled(cells, grid).unflatten(0, frames.shape[:2]).flatten(1)


def pooled(cells: Float[Tensor, "B F H W"], grid: tuple[int, int]) -> Float[Tensor, "B D"]:
    """Returns a map averaged over the patches of a grid, as a vector."""
    rows, columns = min(grid[0], cells.shape[-2]), min(grid[1], cells.shape[-1])
    return F.adaptive_avg_pool2d(cells, (rows, columns)).flatten(1)


@torch.no_grad()
def embed_all(
    encoder: nn.Module,
    batches: Iterable[Float[Tensor, "_ T C H W"]],
    *,
    grid: tuple[int, int] = (10, 3),
) -> Float[Tensor, "N D"]:
    """Returns the embeddings of many batches, in eval mode; leaves the encoder in the mode it was in."""
    was_training = encoder.training
    encoder.eval()
    found = torch.cat([embed(encoder, frames, grid=grid) for frames in batches])
    encoder.train(was_training)
    return found
