"""What is done to patches before they are coded: nothing, centred, whitened."""

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.nn import Configured


class Prepare(Configured):
    """Nothing, and what the others have to offer."""

    def attach(self, size: int) -> None:
        """Makes room for what is measured, of patches of `size` numbers."""

    def forward(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Returns the patches as the dictionary sees them."""
        return rows

    def undo(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Returns the patches that look so to the dictionary."""
        return rows

    def refit(self, rows: Float[Tensor, "B D"]) -> None:
        """Measures them."""


class Centre(Prepare):
    """Less their mean."""

    mean: Tensor

    def attach(self, size: int) -> None:
        self.register_buffer("mean", torch.zeros(size))

    def forward(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return rows - self.mean

    def undo(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return rows + self.mean

    def refit(self, rows: Float[Tensor, "B D"]) -> None:
        self.mean.copy_(rows.mean(0))


class Whiten(Centre):
    """Less their mean, and of covariance one: `(y - mean) S^(-1/2)`.

    Args:
        floor: variance below which a direction is not blown up.
    """

    whitener: Tensor

    def __init__(self, floor: float = 1e-3) -> None:
        super().__init__()
        self.floor = floor

    def attach(self, size: int) -> None:
        super().attach(size)
        self.register_buffer("whitener", torch.eye(size))

    def forward(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return super().forward(rows) @ self.whitener

    def undo(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return super().undo(torch.linalg.solve(self.whitener, rows, left=False))

    def refit(self, rows: Float[Tensor, "B D"]) -> None:
        super().refit(rows)
        values, vectors = torch.linalg.eigh(torch.cov(rows.T))
        self.whitener.copy_(vectors * (values.clamp_min(0) + self.floor).rsqrt() @ vectors.T)
