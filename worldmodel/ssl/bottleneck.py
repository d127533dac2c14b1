"""Bottlenecks: what of a map the decoder may read. `cells -> (cells, scalar to be added to the loss)`."""

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.nn import Configured


class FeatureShare(Configured):
    """A bottleneck through which only a share of the features passes: one half of a split brain, say.

    Args:
        index: which share.
        of: how many there are.
    """

    def __init__(self, *, index: int = 0, of: int = 2) -> None:
        super().__init__()
        self.index, self.of = index, of

    def forward(self, cells: Float[Tensor, "B F H W"]) -> tuple[Float[Tensor, "B F H W"], Float[Tensor, ""]]:
        """Returns the map with the other features zero, at no cost."""
        share = torch.arange(cells.shape[1], device=cells.device) * self.of // cells.shape[1] == self.index
        return cells * share[:, None, None], cells.new_zeros(())
