"""Numbers for filters, on filters of which they are known."""

import math

import pytest
import torch

from worldmodel.ssl.filter import neighbour_alignment, orientation, participation


@pytest.mark.parametrize("angle", [0.0, 0.7, 1.4, -0.5])
def test_the_orientation_of_a_gabor(angle: float) -> None:
    rows, columns = torch.meshgrid(torch.arange(16) - 7.5, torch.arange(16) - 7.5, indexing="ij")
    along = math.cos(angle) * columns + math.sin(angle) * rows
    gabor = (1.2 * along).cos() * (-(rows**2 + columns**2) / 18).exp()
    index, found = orientation(gabor[None])
    assert float(index) > 0.8
    assert math.cos(2 * (float(found) - angle)) > 0.99


def test_a_blob_has_no_orientation() -> None:
    rows, columns = torch.meshgrid(torch.arange(16) - 7.5, torch.arange(16) - 7.5, indexing="ij")
    assert float(orientation((-(rows**2 + columns**2) / 8).exp()[None])[0]) < 0.02


def test_participation_is_the_share_of_equal_pixels() -> None:
    filters = torch.zeros(2, 4, 4)
    filters[0, 1, 1], filters[1] = 3.0, -2.0
    assert participation(filters).tolist() == [1 / 16, 1.0]


def test_alignment_of_neighbours() -> None:
    assert float(neighbour_alignment(torch.full((4, 4), 0.3))) == pytest.approx(1)
    board = (torch.arange(4)[:, None] + torch.arange(4)) % 2
    assert float(neighbour_alignment(board * math.pi / 2)) == pytest.approx(-1)
