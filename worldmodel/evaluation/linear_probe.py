"""How much of a label can be read off an embedding: ridge regression, nearest neighbours, effective rank."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

PENALTIES = (1e-1, 1e0, 1e1, 1e2, 1e3, 1e4, 1e5)
"""Tried by generalised cross-validation, for embeddings of unit variance."""


@dataclass(frozen=True)
class Readout:
    """A linear map from embeddings to labels, and the penalty that each label was fitted with."""

    weight: Float[Tensor, "D L"]
    bias: Float[Tensor, " L"]
    penalty: Float[Tensor, " L"]

    def __call__(self, embedding: Float[Tensor, "N D"]) -> Float[Tensor, "N L"]:
        """Returns the labels as far as they can be read off."""
        return embedding.to(self.weight.dtype) @ self.weight + self.bias


def fit_ridge(
    embedding: Float[Tensor, "N D"], label: Float[Tensor, "N L"], *, penalties: tuple[float, ...] = PENALTIES
) -> Readout:
    """Returns `argmin |y - X w - b|^2 + penalty |w|^2` for each label.

    The penalty is the one with the least generalised cross-validation error (Golub, Heath and Wahba 1979),
    `N |y - y_hat|^2 / (N - 1 - tr H)^2`, from one singular value decomposition. Embeddings are scaled to unit
    variance first; the map that is returned takes them as they come.
    """
    x, y = embedding.double(), label.double()
    centre, scale = x.mean(0), x.std(0).clamp_min(1e-6)
    u, s, vt = torch.linalg.svd((x - centre) / scale, full_matrices=False)
    mean = y.mean(0)
    explained = u.T @ (y - mean)  # (R, L)
    errors, weights = [], []
    for penalty in penalties:
        shrink = s.square() / (s.square() + penalty)
        wrong = y - mean - u @ (shrink[:, None] * explained)
        errors.append(len(y) * wrong.square().sum(0) / (len(y) - 1 - shrink.sum()).square())
        weights.append(vt.T @ ((s / (s.square() + penalty))[:, None] * explained))
    best = torch.stack(errors).argmin(0)  # (L,)
    weight = torch.stack(weights)[best, :, torch.arange(len(best))].T / scale[:, None]
    return Readout(weight, mean - centre @ weight, torch.tensor(penalties, dtype=x.dtype)[best])


def nearest(
    embedding: Float[Tensor, "N D"], known: Float[Tensor, "M D"], *, num: int
) -> tuple[Tensor, Tensor]:
    """Returns distances to the `num` nearest of the known embeddings, and which they are, nearest first."""
    found = torch.cdist(embedding.float(), known.float()).topk(num, largest=False)
    return found.values, found.indices


def r_squared(predicted: Float[Tensor, "N L"], label: Float[Tensor, "N L"]) -> Float[Tensor, " L"]:
    """Returns the share of each label's variance that is explained: 1 at best, 0 for its mean."""
    wrong = (label.double() - predicted.double()).square().sum(0)
    return 1 - wrong / (label.double() - label.double().mean(0)).square().sum(0).clamp_min(1e-12)


def effective_rank(embedding: Float[Tensor, "N D"]) -> float:
    """Returns `exp H(p)` for the normalised singular values `p` of the centred embeddings.

    One where all lie on a line, zero where they are all the same (Roy and Vetterli 2007).
    """
    values = torch.linalg.svdvals(embedding.double() - embedding.double().mean(0))
    if values.sum() <= 1e-9:
        return 0.0
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())
