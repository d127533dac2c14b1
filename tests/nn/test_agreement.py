"""Losses of two views, against their papers' formulas written out."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.integrate import quad

from worldmodel.nn.agreement import (
    contrast,
    contrast_within,
    covariance_off_diagonal,
    gaussianity,
    margin_loss,
    redundancy,
    variance_hinge,
)


def pair(rows: int = 6, dim: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, dim, dtype=torch.float64), torch.randn(rows, dim, dtype=torch.float64)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(F.cosine_similarity(a, b, dim=0))


def test_contrast_is_the_cross_entropy_of_the_own_target() -> None:
    (one, other), negatives = pair(), torch.randn(3, 4, dtype=torch.float64)
    wanted = 0.0
    for i in range(6):
        scores = [math.exp(cosine(one[i], each) / 0.2) for each in (*other, *negatives)]
        wanted -= math.log(scores[i] / sum(scores)) / 6
    found = contrast(one, other, temperature=0.2, negatives=negatives)
    assert float(found) == pytest.approx(wanted, rel=1e-12)


def test_contrast_within_leaves_out_a_views_likeness_to_itself() -> None:
    one, other = pair()
    views = torch.cat([one, other])
    wanted = 0.0
    for i in range(12):
        scores = {j: math.exp(cosine(views[i], views[j]) / 0.5) for j in range(12) if j != i}
        wanted -= math.log(scores[(i + 6) % 12] / sum(scores.values())) / 12
    assert float(contrast_within(one, other, temperature=0.5)) == pytest.approx(wanted, rel=1e-12)


def test_margin_by_hand() -> None:
    one = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    other = torch.tensor([[0.0, 0.5], [1.0, 0.0]])
    # own: 0.25 and 4; others: |a0 - b1| = 1 -> (2 - 1)^2 = 1; |a1 - b0| = sqrt(9.25) > 2 -> 0
    assert float(margin_loss(one, other, margin=2.0, hardest=False)) == pytest.approx((0.25 + 1 + 4) / 2)
    third = torch.tensor([[0.5, 0.0]])
    one, other = torch.cat([one, third]), torch.cat([other, third])
    near = margin_loss(one, other, margin=2.0, hardest=True)
    mean = margin_loss(one, other, margin=2.0, hardest=False)
    assert float(near) > float(mean)


def test_vicregs_terms_are_those_of_the_paper() -> None:
    rows, _ = pair(50, 5)
    rows = rows * torch.tensor([0.1, 0.5, 1.0, 2.0, 1.5])
    std = np.sqrt(rows.numpy().var(axis=0, ddof=1) + 1e-4)
    assert float(variance_hinge(rows)) == pytest.approx(np.maximum(0, 1 - std).mean(), rel=1e-9)
    matrix = np.cov(rows.numpy().T)
    off = (matrix**2).sum() - (np.diag(matrix) ** 2).sum()
    assert float(covariance_off_diagonal(rows)) == pytest.approx(off / 5, rel=1e-9)


def test_redundancy_is_that_of_the_cross_correlation() -> None:
    one, other = pair(40, 3)
    matrix = np.corrcoef(one.numpy().T, other.numpy().T)[:3, 3:]
    off = (matrix**2).sum() - (np.diag(matrix) ** 2).sum()
    wanted = ((1 - np.diag(matrix)) ** 2).sum() + 0.1 * off
    assert float(redundancy(one, other, weight=0.1)) == pytest.approx(wanted, rel=1e-4)


def test_gaussianity_is_the_distance_of_characteristic_functions() -> None:
    rows = torch.randn(30, 1, dtype=torch.float64) * 1.5 + 0.3
    x = rows[:, 0].numpy()

    def integrand(t: float) -> float:
        real, imaginary = np.cos(t * x).mean() - math.exp(-(t**2) / 2), np.sin(t * x).mean()
        return float((real**2 + imaginary**2) * math.exp(-(t**2) / 2))

    found = gaussianity(rows, torch.ones(1, 1, dtype=torch.float64), num_points=201)
    assert float(found) == pytest.approx(30 * quad(integrand, -3, 3)[0], rel=1e-3)


def test_gaussian_batches_are_the_least_penalised() -> None:
    directions = F.normalize(torch.randn(16, 8), dim=1)
    gaussian = gaussianity(torch.randn(2000, 8), directions)
    others = (2 * torch.randn(2000, 8), torch.randn(2000, 8) + 1, torch.rand(2000, 8), torch.zeros(2000, 8))
    assert all(gaussianity(rows, directions) > 5 * gaussian for rows in others)


def test_all_are_differentiable() -> None:
    one, other = (part.requires_grad_() for part in pair(5, 3))
    directions = F.normalize(torch.randn(4, 3, dtype=torch.float64), dim=1)
    for loss in (
        lambda a, b: contrast(a, b, temperature=0.3),
        lambda a, b: contrast_within(a, b, temperature=0.3),
        lambda a, b: margin_loss(a, b, margin=3.0, hardest=False),
        lambda a, b: variance_hinge(0.1 * a) + covariance_off_diagonal(b),
        lambda a, b: redundancy(a, b, weight=0.1),
        lambda a, b: gaussianity(a, directions) + b.sum(),
    ):
        assert torch.autograd.gradcheck(loss, (one, other))
