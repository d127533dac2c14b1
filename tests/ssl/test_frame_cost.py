"""Costs of a frame: what each prefers when several frames are possible."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.nn import (
    BinaryCrossEntropy,
    FrameCost,
    GradientDifference,
    LaplacianPyramid,
    QuantisedCrossEntropy,
    SquaredError,
    weighted_mean,
)

Say = Callable[[str], None]

COSTS: list[FrameCost] = [
    SquaredError(),
    BinaryCrossEntropy(),
    GradientDifference(),
    LaplacianPyramid(),
    QuantisedCrossEntropy(channels=2),
]
every = pytest.mark.parametrize("cost", COSTS, ids=lambda one: type(one).__name__)


@every
def test_pixels_without_weight_do_not_count(cost: FrameCost) -> None:
    torch.manual_seed(0)
    output, target = torch.randn(2, cost.outputs(2), 16, 8), torch.rand(2, 2, 16, 8)
    weight = torch.zeros(2, 1, 16, 8)
    weight[:, :, :8] = 1
    changed = torch.cat([target[:, :, :8], target[:, :, 8:].flip(-1)], 2)
    if not isinstance(cost, LaplacianPyramid):  # its coarser bands look across the border
        torch.testing.assert_close(cost(output, target, weight), cost(output, changed, weight))
    torch.testing.assert_close(cost(output, target, torch.ones(2, 1, 16, 8)), cost(output, target))


@every
def test_the_value_of_the_best_outputs_is_the_frame(cost: FrameCost) -> None:
    torch.manual_seed(0)
    target = torch.randint(3, (1, 2, 4, 4)) / 2
    output = torch.zeros(1, cost.outputs(2), 4, 4, requires_grad=True)
    optimizer = torch.optim.Adam([output], lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        cost(output, target).backward()
        optimizer.step()
    assert (cost.value(output) - target).abs().max().item() < 0.05


def test_a_weighted_mean_is_over_what_has_weight() -> None:
    value = torch.tensor([[1.0, 2.0], [3.0, 6.0]])[None, None]
    weight = torch.tensor([[1.0, 0.0], [0.0, 3.0]])[None, None]
    assert weighted_mean(value, weight).item() == pytest.approx(19 / 4)
    assert weighted_mean(value, torch.zeros_like(weight)).item() == 0.0


def test_differences_of_a_step_and_of_a_ramp() -> None:
    step = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 1, 3, 4)
    ramp = torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]).expand(1, 1, 3, 4)
    cost = GradientDifference(weight=1.0)
    squared = SquaredError()(ramp, step)
    torch.testing.assert_close(cost(ramp, step) - squared, torch.tensor((1 / 3 + 2 / 3 + 1 / 3) / 3))
    torch.testing.assert_close(
        cost(1 - step, step), SquaredError()(1 - step, step)
    )  # a mirrored edge is sharp


def test_bands_of_a_pyramid_sum_to_the_frame() -> None:
    frame = torch.rand(2, 3, 13, 7)
    bands = LaplacianPyramid(num_levels=3).bands(frame)
    whole = bands[-1]
    for band in reversed(bands[:-1]):
        whole = band + F.interpolate(whole, size=band.shape[-2:], mode="bilinear")
    torch.testing.assert_close(whole, frame)


def colours(count: int) -> Tensor:
    """Frames of one pixel, red, green or blue: `(B, 3, 1, 1)`."""
    return torch.eye(3)[torch.randint(3, (count,))][..., None, None]


@pytest.mark.proof("G5'")
def test_squared_error_says_grey_where_the_pixel_is_red_green_or_blue(result: Say) -> None:
    torch.manual_seed(0)
    target = colours(3000)
    grey, best = torch.zeros(1, 3, 1, 1, requires_grad=True), QuantisedCrossEntropy(num_levels=2, channels=3)
    logits = torch.zeros(1, best.outputs(3), 1, 1, requires_grad=True)
    optimizer = torch.optim.Adam([grey, logits], lr=0.1)
    for _ in range(400):
        optimizer.zero_grad()
        loss = SquaredError()(grey.expand_as(target), target) + best(logits.expand(3000, -1, -1, -1), target)
        loss.backward()
        optimizer.step()
    mean = target.mean(0).flatten()
    torch.testing.assert_close(grey.flatten(), mean, atol=1e-3, rtol=0)
    chance = logits.softmax(1).flatten()
    primary = best.nearest(torch.eye(3)[..., None, None]).flatten()
    torch.testing.assert_close(chance[primary], mean, atol=1e-2, rtol=0)
    assert SquaredError()(grey.expand_as(target), target).item() == pytest.approx(2 / 9, abs=1e-2)
    said = ", ".join(f"{value:.2f}" for value in grey.flatten().tolist())
    result(f"least squares says ({said}), which no pixel is; classes keep the odds")


def test_the_nearest_point_of_the_grid_is_the_nearest() -> None:
    torch.manual_seed(0)
    cost = QuantisedCrossEntropy(num_levels=5, low=-1.0, high=0.5, channels=3)
    target = 3 * torch.rand(2, 3, 4, 4) - 1.8
    far = torch.cdist(target.movedim(1, -1).reshape(-1, 3), cost.points)
    torch.testing.assert_close(far.gather(1, cost.nearest(target).reshape(-1, 1))[:, 0], far.min(1).values)


def test_rare_levels_are_given_weight() -> None:
    """Zhang et al. 2016, equation 4: weights fall with the frequency, and a pixel counts one on average."""
    cost = QuantisedCrossEntropy(num_levels=2, rebalance=0.5)
    cost.refit([torch.tensor([0.0] * 9 + [1.0]).reshape(10, 1, 1, 1)])
    torch.testing.assert_close(cost.prior, torch.tensor([0.9, 0.1]))
    weights = cost.weights()
    torch.testing.assert_close(weights[1] / weights[0], torch.tensor((0.45 + 0.25) / (0.05 + 0.25)))
    torch.testing.assert_close((weights * cost.prior).sum(), torch.tensor(1.0))
    output, target = torch.randn(4, 2, 3, 3), torch.rand(4, 1, 3, 3)
    expected = F.cross_entropy(output, target[:, 0].round().long(), weight=weights, reduction="none").mean()
    torch.testing.assert_close(cost(output, target), expected)


def fork(count: int) -> Tensor:
    """A car that went left in three of five cases, right in the others: `(B, 1, 12, 12)`."""
    frame = torch.zeros(count, 1, 12, 12)
    left = torch.arange(count) % 5 < 3
    frame[left, :, 3:9, 2:5] = 1
    frame[~left, :, 3:9, 8:11] = 1
    return frame


def sharpness(frame: Tensor) -> float:
    return sum(frame.diff(dim=dim).square().sum((1, 2, 3)).mean().item() for dim in (-2, -1))


@pytest.mark.slow
@pytest.mark.proof("H7")
def test_frames_are_sharper_by_differences_and_scales_than_by_squared_error(result: Say) -> None:
    torch.manual_seed(0)
    target, found = fork(40), {}
    costs = {
        "squared": SquaredError(),
        "differences": GradientDifference(weight=10.0),
        "scales": LaplacianPyramid(num_levels=3),
        "both": GradientDifference(LaplacianPyramid(num_levels=3), weight=1.0),
    }
    for name, cost in costs.items():
        frame = torch.full((1, 1, 12, 12), 0.3, requires_grad=True)
        optimizer = torch.optim.Adam([frame], lr=0.03)
        for _ in range(400):
            optimizer.zero_grad()
            cost(frame.expand_as(target), target).backward()
            optimizer.step()
        found[name] = sharpness(frame.detach()) / sharpness(target)
    assert found["squared"] == pytest.approx(0.6**2 + 0.4**2, abs=0.02)
    assert min(found["differences"], found["scales"], found["both"]) > 1.5 * found["squared"]
    said = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
    result(f"energy of the differences, as a share of the truth's: {said}")
