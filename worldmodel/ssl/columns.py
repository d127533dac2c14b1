"""What the columns of a dictionary may be: `(pixels, atoms)` -> the nearest that is allowed.

Without a bound the penalty on the code is void: half the code times twice the dictionary explains as much.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.nn import Configured
from worldmodel.nn.cluster import lloyd, spread_centres
from worldmodel.nn.sparse import unit_columns


class Columns(Configured):
    """Any columns, and what the others have to offer."""

    def forward(self, weight: Float[Tensor, "D N"]) -> Float[Tensor, "D N"]:
        """Returns the dictionary as it may be."""
        return weight

    def refit(self, weight: Float[Tensor, "D N"], rows: Float[Tensor, "B D"]) -> Float[Tensor, "D N"]:
        """Returns the dictionary that fits many rows best, where there is a closed form."""
        return weight


class Unit(Columns):
    """Of norm one."""

    def forward(self, weight: Float[Tensor, "D N"]) -> Float[Tensor, "D N"]:
        return unit_columns(weight)


class NonNegativeUnit(Columns):
    """Of norm one, no entry below zero."""

    def forward(self, weight: Float[Tensor, "D N"]) -> Float[Tensor, "D N"]:
        return unit_columns(weight.clamp_min(0))


class Orthonormal(Columns):
    """Orthogonal and of norm one: the nearest such matrix, `U V^T` of the singular value decomposition."""

    def forward(self, weight: Float[Tensor, "D N"]) -> Float[Tensor, "D N"]:
        left, _, right = torch.linalg.svd(weight, full_matrices=False)
        return left @ right


class Principal(Orthonormal):
    """Orthonormal; a refit makes them the directions of greatest variance."""

    def refit(self, weight: Float[Tensor, "D N"], rows: Float[Tensor, "B D"]) -> Float[Tensor, "D N"]:
        """Returns the first eigenvectors of `rows^T rows`; the rows should be centred."""
        _, vectors = torch.linalg.eigh(rows.T @ rows)  # the eigenvalues ascend
        return vectors.flip(1)[:, : weight.shape[1]].contiguous()


class Means(Columns):
    """Centres of clusters; a refit moves them to the means of what is closest to them.

    Args:
        num_steps: of k-means at each refit; the first one starts from rows far from each other.
    """

    started: Tensor

    def __init__(self, num_steps: int = 20) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.register_buffer("started", torch.tensor(False))

    def refit(self, weight: Float[Tensor, "D N"], rows: Float[Tensor, "B D"]) -> Float[Tensor, "D N"]:
        """Returns the centres after steps of `worldmodel.nn.cluster.lloyd`."""
        centres = weight.T
        if not self.started:
            generator = torch.Generator(rows.device).manual_seed(0)  # the same in every process
            centres = spread_centres(rows, weight.shape[1], generator)
            self.started.fill_(True)
        for _ in range(self.num_steps):
            centres = lloyd(rows, centres)
        return centres.T
