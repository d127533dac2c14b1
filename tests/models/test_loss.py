"""Losses: by hand."""

import pytest
import torch

from worldmodel.models import masked_bce, occupancy_loss, soft_overlap_loss


def test_overlap_loss_by_hand() -> None:
    """Two of three occupied pixels hit: (2 + 1) / (3 + 1); an uncovered row does not count."""
    logits = torch.full((1, 1, 1, 2, 3), -50.0)
    target = torch.zeros(1, 1, 1, 2, 3)
    logits[0, 0, 0, 0, :2] = 50.0
    target[0, 0, 0, 0, :] = 1.0
    target[0, 0, 0, 1, :] = 1.0
    covered = torch.tensor([[[True, False]]])
    assert soft_overlap_loss(logits, target, covered).item() == pytest.approx(1 - 3 / 4)
    whole = torch.ones_like(covered)
    assert soft_overlap_loss(logits, target, whole).item() == pytest.approx(1 - 3 / 7)
    both = occupancy_loss(logits / 50, target, covered, overlap=0.5)
    parts = masked_bce(logits / 50, target, covered) + 0.5 * soft_overlap_loss(logits / 50, target, covered)
    torch.testing.assert_close(both, parts)
