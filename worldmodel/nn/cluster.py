"""k-means and mixtures of Gaussians, as pure functions on rows."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor


def nearest(rows: Float[Tensor, "B D"], centres: Float[Tensor, "K D"]) -> Int[Tensor, " B"]:
    """Returns the centre that is closest to each row."""
    return torch.cdist(rows, centres).argmin(1)


def spread_centres(
    rows: Float[Tensor, "B D"], num_centres: int, generator: Generator | None = None
) -> Float[Tensor, "K D"]:
    """Returns rows that are far from each other: k-means++ (Arthur and Vassilvitskii 2007).

    Each next one is drawn with a chance that grows with the square of its distance from those before.
    """
    chosen = [rows[int(torch.randint(len(rows), (), generator=generator, device=rows.device))]]
    far = (rows - chosen[0]).square().sum(1)
    for _ in range(num_centres - 1):
        chance = far if float(far.sum()) > 0 else torch.ones_like(far)
        chosen.append(rows[int(torch.multinomial(chance, 1, generator=generator))])
        far = torch.minimum(far, (rows - chosen[-1]).square().sum(1))
    return torch.stack(chosen)


def lloyd(rows: Float[Tensor, "B D"], centres: Float[Tensor, "K D"]) -> Float[Tensor, "K D"]:
    """Returns each centre at the mean of the rows closest to it; one that has none stays where it is.

    Never increases the mean of `min_k |y - c_k|^2`.
    """
    owner = nearest(rows, centres)
    count = torch.zeros_like(centres[:, 0]).index_add(0, owner, torch.ones_like(rows[:, 0]))
    total = torch.zeros_like(centres).index_add(0, owner, rows)
    return torch.where(count[:, None] > 0, total / count.clamp_min(1)[:, None], centres)


@dataclass(frozen=True)
class GaussianMixture:
    """`sum_k pi_k N(mean_k, covariance_k)`.

    Attributes:
        log_share: log pi.
        mean: of each component.
        covariance: of each component.
    """

    log_share: Float[Tensor, " K"]
    mean: Float[Tensor, "K D"]
    covariance: Float[Tensor, "K D D"]

    def joint(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Returns `log pi_k + log N(y; mean_k, covariance_k)`."""
        factor = torch.linalg.cholesky(self.covariance)
        away = (rows[:, None] - self.mean).movedim(0, 2)  # (K, D, B)
        squares = torch.linalg.solve_triangular(factor, away, upper=False).square().sum(1)
        log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = rows.shape[1] * math.log(2 * math.pi) + log_det
        return self.log_share - 0.5 * (squares.T + constant)

    def energy(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
        """Returns `-log p(y)`: the free energy, summed over the component that is not known."""
        return -self.joint(rows).logsumexp(1)

    def responsibility(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Returns how probable each component is, given the row."""
        return self.joint(rows).softmax(1)


def maximise_expectation(
    rows: Float[Tensor, "B D"], mixture: GaussianMixture, *, floor: float = 1e-6
) -> GaussianMixture:
    """Returns the mixture after a step of EM, never less probable (Dempster et al. 1977).

    Args:
        floor: added to the variances.
    """
    weight = mixture.responsibility(rows)
    count = weight.sum(0).clamp_min(1e-10)
    mean = weight.T @ rows / count[:, None]
    away = rows[:, None] - mean  # (B, K, D)
    covariance = torch.einsum("bk,bki,bkj->kij", weight, away, away) / count[:, None, None]
    ridge = floor * torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    return GaussianMixture((count / count.sum()).log(), mean, covariance + ridge)
