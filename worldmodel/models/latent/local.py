"""A latent that is a map: a small one for each patch of the road, all of the same kind."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from worldmodel.models.latent.base import Latent, LatentSample


class LocalLatent(nn.Module):
    """One small latent for each patch: what the past leaves open, each driver decides on his own.

    The hidden map and the encoded future are cut into `grid` patches, whose latents share their weights and
    know their own patch only (of maps whose cells have looked around already). So a latent need not learn
    *where* it speaks of, which a vector for the whole scene has to. z holds the patches row by row.

    Args:
        latent: of a patch; any.
        grid: rows and columns of patches. The default gives, for the default raster, patches of 7.4 m of a
            lane and its margins: about a vehicle each. Maps that it does not divide are padded.
    """

    def __init__(self, latent: Latent, *, grid: Sequence[int] = (10, 3)) -> None:
        super().__init__()
        self.latent: Latent = latent
        self.grid = (int(grid[0]), int(grid[1]))
        self.dim = self.grid[0] * self.grid[1] * latent.dim
        self.config = {
            "_target_": "worldmodel.models.latent.LocalLatent",
            "latent": latent.config,
            "grid": self.grid,
        }

    def prior(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B Z"]:
        """Returns a draw from the prior of every patch."""
        return self.latent.prior(self._patches(hidden), generator).unflatten(0, (len(hidden), -1)).flatten(1)

    def posterior(
        self,
        hidden: Float[Tensor, "B C H W"],
        target: Float[Tensor, "B F H W"],
        generator: Generator | None = None,
    ) -> LatentSample:
        """Returns a draw from the posterior of every patch; the penalty is their sum."""
        sample = self.latent.posterior(self._patches(hidden), self._patches(target), generator)
        z = sample.z.unflatten(0, (len(hidden), -1)).flatten(1)
        return LatentSample(z, sample.penalty.unflatten(0, (len(hidden), -1)).sum(1))

    def _patches(self, maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "N C H2 W2"]:
        """The patches of every map, those of a map next to each other."""
        rows, columns = self.grid
        down, right = -maps.shape[-2] % rows, -maps.shape[-1] % columns
        cells = F.pad(maps, (0, right, 0, down)).unflatten(3, (columns, -1)).unflatten(2, (rows, -1))
        return cells.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)  # (B, C, R, h, K, w) -> (B R K, C, h, w)
