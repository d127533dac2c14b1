"""When do embeddings of two views agree without all being the same? Pure functions of a batch.

Contrast pushes the embeddings of other scenes away; the variance, covariance and Gaussian terms spread the
whole batch instead. Rows of both arguments belong together.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def contrast(
    online: Float[Tensor, "B D"],
    target: Float[Tensor, "B D"],
    *,
    temperature: float,
    negatives: Float[Tensor, "N D"] | None = None,
) -> Float[Tensor, ""]:
    """Returns InfoNCE (van den Oord et al. 2018): the cross-entropy of finding each row's own target.

    `-log exp(s_ii / tau) / (sum_j exp(s_ij / tau) + sum_n exp(s_in / tau))` with cosine similarities `s`.

    Args:
        negatives: further embeddings that belong to no row.
    """
    one, other = F.normalize(online, dim=-1), F.normalize(target, dim=-1)
    logits = one @ other.T
    if negatives is not None:
        logits = torch.cat([logits, one @ F.normalize(negatives, dim=-1).T], dim=1)
    return F.cross_entropy(logits / temperature, torch.arange(len(one), device=one.device))


def contrast_within(
    one: Float[Tensor, "B D"], other: Float[Tensor, "B D"], *, temperature: float
) -> Float[Tensor, ""]:
    """Returns NT-Xent (Chen et al. 2020): InfoNCE over all `2 B` views; all but the twin are negative."""
    views = F.normalize(torch.cat([one, other]), dim=-1)
    logits = (views @ views.T / temperature).fill_diagonal_(-torch.inf)
    twin = torch.arange(len(views), device=views.device).roll(len(one))
    return F.cross_entropy(logits, twin)


def margin_loss(
    online: Float[Tensor, "B D"], target: Float[Tensor, "B D"], *, margin: float, hardest: bool
) -> Float[Tensor, ""]:
    """Returns `|a_i - b_i|^2 + [m - |a_i - b_j|]_+^2` (Hadsell, Chopra, LeCun 2006), mean over rows.

    Args:
        hardest: of all other rows `j` only the nearest counts, instead of their mean.
    """
    squared = (online[:, None] - target[None]).square().sum(-1)  # (B, B)
    others = ~torch.eye(len(online), dtype=torch.bool, device=online.device)
    close = (margin - squared.clamp_min(1e-12).sqrt()).clamp_min(0.0).square() * others
    apart = close.amax(1) if hardest else close.sum(1) / max(len(online) - 1, 1)
    return (squared.diagonal() + apart).mean()


def variance_hinge(rows: Float[Tensor, "B D"], *, floor: float = 1.0) -> Float[Tensor, ""]:
    """Returns `mean_d [floor - std_d]_+`: zero where every dimension varies enough (Bardes et al. 2022)."""
    return (floor - (rows.var(0) + 1e-4).sqrt()).clamp_min(0.0).mean()


def covariance_off_diagonal(rows: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Returns `1/D sum_{i != j} C_ij^2` of the batch's covariance: what dimensions say twice."""
    centred = rows - rows.mean(0)
    matrix = centred.T @ centred / (len(rows) - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / rows.shape[1]


def redundancy(one: Float[Tensor, "B D"], other: Float[Tensor, "B D"], *, weight: float) -> Float[Tensor, ""]:
    """Returns Barlow Twins' loss (Zbontar et al. 2021): how far the cross-correlation is from the identity.

    `sum_i (1 - C_ii)^2 + weight sum_{i != j} C_ij^2`
    """
    matrix = standardised(one).T @ standardised(other) / len(one)
    off = matrix.square().sum() - matrix.diagonal().square().sum()
    return (1 - matrix.diagonal()).square().sum() + weight * off


def gaussianity(
    rows: Float[Tensor, "B D"], directions: Float[Tensor, "K D"], *, num_points: int = 17, reach: float = 3.0
) -> Float[Tensor, ""]:
    """Returns how far projections of the batch are from `N(0, 1)` (SIGReg; Balestriero and LeCun 2025).

    The Epps-Pulley statistic: the squared distance of the empirical characteristic function from
    `exp(-t^2 / 2)`, weighted by it and integrated over `t` by the trapezoidal rule, mean over directions.

    Args:
        directions: unit vectors.
    """
    t = torch.linspace(-reach, reach, num_points, dtype=rows.dtype, device=rows.device)
    wanted = (-0.5 * t.square()).exp()
    angle = (rows @ directions.T).unsqueeze(-1) * t  # (B, K, P)
    distance = (angle.cos().mean(0) - wanted).square() + angle.sin().mean(0).square()
    return len(rows) * torch.trapezoid(distance * wanted, t, dim=-1).mean()


def standardised(rows: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Returns the rows with mean zero and variance one in each dimension, over the batch."""
    return (rows - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-6).sqrt()
