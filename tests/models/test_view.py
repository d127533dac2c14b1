"""Moving pixels along: hand-computed, against a plain loop, and its derivative."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.models.view import carry, look_up, pool_over_cars, window_sum
from worldmodel.scene import RasterSpec

SPEC = RasterSpec(height=8, width=6, resolution=0.5)


def field(ahead: float, left: float, *, steps: int = 1) -> Tensor:
    return torch.tensor([ahead, left]).reshape(1, 1, 2, 1, 1).expand(1, steps, 2, SPEC.height, SPEC.width)


def dot(row: int, col: int, value: float = 1.0) -> Tensor:
    image = torch.zeros(1, 1, SPEC.height, SPEC.width)
    image[0, 0, row, col] = value
    return image


def carried(image: Tensor, start: Tensor, velocity: Tensor, *seconds: float) -> Tensor:
    return carry(image, start, velocity, seconds=torch.tensor(seconds, dtype=image.dtype), spec=SPEC)


def test_a_pixel_goes_ahead_and_left_by_its_motion() -> None:
    """0.5 m a pixel: from (5, 3), 1 m + 2 s * 0.5 m/s ahead is 4 rows up, 0.5 m left is a column."""
    frames = carried(dot(5, 3), field(1.0, 0.5), field(0.5, 0.0), 0.0, 1.0, 2.0)
    assert frames.shape == (1, 1, 3, 8, 6)
    assert frames[0, 0].nonzero().tolist() == [[0, 3, 2], [1, 2, 2], [2, 1, 2]]


def test_half_a_pixel_is_shared_and_grey_values_are_kept() -> None:
    frame = carried(dot(5, 3, 0.8), field(0.25, 0.125), field(0.0, 0.0), 0.1)[0, 0, 0]
    torch.testing.assert_close(frame[4:6, 2:4], 0.8 * torch.tensor([[0.125, 0.375], [0.125, 0.375]]))
    assert frame.sum().item() == pytest.approx(0.8)


def test_what_leaves_is_lost_and_what_meets_adds_up_to_one() -> None:
    assert carried(dot(0, 0), field(0.5, 0.0), field(0.0, 0.0), 0.1).sum() == 0
    assert carried(dot(7, 5), field(-99.0, -99.0), field(0.0, 0.0), 0.1).sum() == 0
    start = torch.zeros(1, 1, 2, 8, 6)
    start[0, 0, 0, 4, 3] = 0.5  # the lower of two pixels moves onto the upper
    frame = carried(dot(3, 3, 0.7) + dot(4, 3, 0.6), start, field(0.0, 0.0), 0.1)[0, 0, 0]
    assert frame.max() == 1.0
    assert frame.sum() == 1.0


def test_equals_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 1, 8, 6, generator=generator)
    start, velocity = torch.randn(2, 2, 3, 2, 8, 6, generator=generator)
    seconds = torch.tensor([0.1, 0.4])
    expected = torch.zeros(2, 3, 2, 8, 6)
    for b, s, f, r, c in torch.cartesian_prod(*(torch.arange(n) for n in expected.shape)).tolist():
        if image[b, 0, r, c] <= 0.02:
            continue
        ahead, left = ((start + seconds[f] * velocity)[b, s, :, r, c] / 0.5).tolist()
        row, col = r - ahead, c - left
        for y in (math.floor(row), math.floor(row) + 1):
            for x in (math.floor(col), math.floor(col) + 1):
                if 0 <= y < 8 and 0 <= x < 6:
                    expected[b, s, f, y, x] += image[b, 0, r, c] * (1 - abs(row - y)) * (1 - abs(col - x))
    found = carry(image, start, velocity, seconds=seconds, spec=SPEC)
    torch.testing.assert_close(found, expected.clamp(max=1.0))


def test_gradient_is_right() -> None:
    generator = torch.Generator().manual_seed(1)
    image = 0.05 + 0.2 * torch.rand(1, 1, 8, 6, generator=generator, dtype=torch.float64)
    start = (0.1 * torch.randn(1, 2, 2, 8, 6, generator=generator, dtype=torch.float64)).requires_grad_()
    velocity = (0.1 * torch.randn(1, 2, 2, 8, 6, generator=generator, dtype=torch.float64)).requires_grad_()

    def fn(start: Tensor, velocity: Tensor) -> Tensor:
        return carried(image, start, velocity, 0.3)[..., 1:4, 1:4]

    assert torch.autograd.gradcheck(fn, (start, velocity), fast_mode=True)


def test_pooling_makes_a_car_rigid_and_leaves_its_neighbour_alone() -> None:
    """A motion that grows along each of two cars becomes one motion for each."""
    spec = RasterSpec(height=40, width=16, resolution=0.6)
    image = torch.zeros(1, 1, 40, 16)
    image[0, 0, 5:12, 2:5] = 1.0
    image[0, 0, 20:27, 10:13] = 1.0
    rows = torch.arange(40.0).reshape(1, 1, 40, 1).expand(1, 1, 40, 16)
    pooled = pool_over_cars(rows, image, spec)
    assert pooled[0, 0, 8, 3].item() == pytest.approx(8.0)
    assert pooled[0, 0, 23, 11].item() == pytest.approx(23.0)
    spread = pooled[0, 0, 5:12, 3]
    assert spread.max() - spread.min() < 0.6 * 6
    torch.testing.assert_close(pool_over_cars(torch.ones_like(rows), image, spec)[image > 0], torch.ones(42))


@pytest.mark.parametrize("size", [1, 3, 5, 7, 9, 15])
@pytest.mark.parametrize("dim", [-2, -1])
def test_a_window_sums_what_average_pooling_averages(size: int, dim: int) -> None:
    values = torch.randn(2, 3, 17, 16, dtype=torch.float64, requires_grad=True)
    window = (size, 1) if dim == -2 else (1, size)
    padding = tuple(one // 2 for one in window)
    expected = size * F.avg_pool2d(values, window, stride=1, padding=padding)
    got = window_sum(values, size, dim=dim)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(one.square().sum(), values)[0] for one in (got, expected))
    )


def test_looked_up_where_it_went_it_is_what_it_was() -> None:
    """Carried three pixels ahead and one left, then looked up there: the image before."""
    image = dot(5, 3) + dot(6, 4, 0.5)
    displacement = field(1.5, 0.5)
    moved = carried(image, displacement, field(0.0, 0.0), 0.1)[:, 0]
    assert moved[0, 0].nonzero().tolist() == [[2, 2], [3, 3]]
    torch.testing.assert_close(look_up(moved, displacement[:, 0], SPEC), image)


def test_what_went_farther_than_expected_is_seen_ahead() -> None:
    """Expected to stay, it went a pixel ahead: half of it is where half a pixel more was looked for."""
    moved = dot(4, 3)
    assert look_up(moved, field(0.0, 0.0)[:, 0], SPEC)[0, 0].nonzero().tolist() == [[4, 3]]
    half = look_up(moved, field(0.25, 0.0)[:, 0], SPEC)[0, 0]
    torch.testing.assert_close(half[4:6, 3], torch.tensor([0.5, 0.5]))
    assert look_up(moved, field(9.0, 0.0)[:, 0], SPEC)[0, 0, 5:].sum() == 0
