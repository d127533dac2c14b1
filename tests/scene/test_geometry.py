import math

import numpy as np
import pytest
import shapely
import torch
from torch import Tensor

from tests.factories import make_boxes
from worldmodel.scene import boxes_overlap, compose_pose, gaps, relative_pose, shrink


def box(x: float, y: float, heading: float = 0.0, *, length: float = 4.0, width: float = 2.0) -> Tensor:
    return torch.tensor([x, y, heading, length, width], dtype=torch.float64)


def polygons(boxes: Tensor) -> np.ndarray:
    """Corners by complex numbers: nothing shared with the code under test."""
    x, y, heading, length, width = boxes.numpy().T
    signs = np.array([1 + 1j, 1 - 1j, -1 - 1j, -1 + 1j])
    corner = signs.real * length[:, None] / 2 + 1j * signs.imag * width[:, None] / 2
    corner = (x + 1j * y)[:, None] + corner * np.exp(1j * heading)[:, None]
    return shapely.polygons(np.stack([corner.real, corner.imag], axis=-1))


def test_overlap_agrees_with_shapely() -> None:
    a, b = make_boxes(5000, seed=1), make_boxes(5000, seed=2)
    area = shapely.area(shapely.intersection(polygons(a), polygons(b)))
    got = boxes_overlap(a, b).numpy()
    assert 0.2 < got.mean() < 0.8
    np.testing.assert_array_equal(got, area > 0)


def test_overlap_is_symmetric_and_does_not_depend_on_the_frame() -> None:
    a, b = make_boxes(500, seed=3), make_boxes(500, seed=4)
    frame = torch.tensor([100.0, -40.0, 1.234], dtype=torch.float64)
    assert torch.equal(boxes_overlap(a, b), boxes_overlap(b, a))
    assert torch.equal(boxes_overlap(a, b), boxes_overlap(compose_pose(a, frame), compose_pose(b, frame)))
    assert torch.equal(boxes_overlap(a, b), boxes_overlap(relative_pose(a, frame), relative_pose(b, frame)))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (box(4.0, 0.0), False),  # bumpers touch
        (box(3.999, 0.0), True),
        (box(0.0, 2.0), False),  # sides touch
        (box(0.0, 1.999), True),
        (box(4.0, 2.0), False),  # corners touch
        (box(3.0, 0.0, math.pi / 2), False),  # a crossing car touches the bumper
        (box(2.999, 0.0, math.pi / 2), True),
        (box(0.0, 0.0, 0.3, length=0.5, width=0.2), True),  # contained
        (box(0.0, 0.0, 0.3, length=50.0, width=20.0), True),  # contains
        (box(2.6, 1.6, math.pi / 4, length=2.0, width=2.0), True),  # a tip pokes the corner
        (box(2.9, 1.9, math.pi / 4, length=2.0, width=2.0), False),  # hulls overlap, boxes do not
        (box(0.0, 0.0), True),  # itself
    ],
)
def test_overlap_by_hand(other: Tensor, expected: bool) -> None:
    assert boxes_overlap(box(0.0, 0.0), other).item() is expected


def test_overlap_has_no_gradient() -> None:
    assert not boxes_overlap(box(0, 0).requires_grad_(), box(1, 0)).requires_grad


def test_every_pair_at_once() -> None:
    boxes = make_boxes(7, extent=12.0)
    table = boxes_overlap(boxes[:, None], boxes[None])
    for i in range(7):
        for j in range(7):
            assert table[i, j] == boxes_overlap(boxes[i], boxes[j])


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (box(10.0, 3.0), (6.0, 1.0)),
        (box(-10.0, -3.0), (6.0, 1.0)),  # behind and to the right: distances, not positions
        (box(3.0, 0.0), (-1.0, -2.0)),  # overlap by one metre and by the whole width
        (box(10.0, 0.0, math.pi / 2), (7.0, -3.0)),  # a crossing car is 2 m long and 4 m wide
        (box(10.0, 0.0, math.pi / 4), (8.0 - 3.0 / math.sqrt(2), -1.0 - 3.0 / math.sqrt(2))),
    ],
)
def test_gaps_by_hand(other: Tensor, expected: tuple[float, float]) -> None:
    torch.testing.assert_close(gaps(box(0, 0), other), torch.tensor(expected, dtype=torch.float64))


def test_gaps_batched_are_gaps_looped() -> None:
    a, b = make_boxes(20, seed=5), make_boxes(20, seed=6)
    torch.testing.assert_close(gaps(a, b), torch.stack([gaps(a[i], b[i]) for i in range(20)]))


def test_a_positive_gap_means_no_overlap() -> None:
    a, b = make_boxes(2000, seed=7), make_boxes(2000, seed=8)
    is_free = (gaps(a, b) > 0).any(-1)
    assert is_free.any()
    assert not boxes_overlap(a, b)[is_free].any()


def test_gaps_gradient_is_that_of_the_position() -> None:
    ego = box(0, 0).requires_grad_()
    gaps(ego, box(10, 3))[0].backward()
    assert ego.grad is not None
    torch.testing.assert_close(ego.grad[:2], torch.tensor([-1.0, 0.0], dtype=torch.float64))


def test_shrink_takes_the_margin_off_every_side() -> None:
    torch.testing.assert_close(shrink(box(1, 2, 0.3), 0.1), box(1, 2, 0.3, length=3.8, width=1.8))
