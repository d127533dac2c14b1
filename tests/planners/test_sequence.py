"""Knots and actions: there and back, within what a car can do."""

import torch

from planners import ActionBounds, ActionSequences
from planners.sequence import interpolation, without_reversing


def test_knots_are_interpolated_linearly_and_recovered() -> None:
    spread = interpolation(3, 5)
    assert (spread @ torch.tensor([0.0, 2.0, 0.0])).tolist() == [0.0, 1.0, 2.0, 1.0, 0.0]
    knots = torch.randn(6, 2)
    spread = interpolation(6, 30)
    torch.testing.assert_close(torch.linalg.pinv(spread) @ (spread @ knots), knots, atol=1e-4, rtol=1e-4)


def test_nobody_brakes_into_reverse() -> None:
    """1 m/s, braking with 6 m/s^2 for three tenths of a second, then accelerating: as the recursion says."""
    accel = torch.tensor([[-6.0, -6.0, -6.0, 2.0, -9.0], [1.0, -2.0, 0.5, 0.0, 3.0]], dtype=torch.float64)
    speed = torch.tensor([1.0, -0.1], dtype=torch.float64)
    action = torch.stack([accel, torch.full_like(accel, 0.01)], dim=-1)
    found = without_reversing(action, speed, 0.1)
    expected = torch.zeros_like(accel)
    for row, floor in ((0, 0.0), (1, -0.1)):
        now = speed[row].item()
        for t in range(5):
            after = max(floor, now + 0.1 * accel[row, t].item())
            expected[row, t], now = (after - now) / 0.1, after
    torch.testing.assert_close(found[..., 0], expected)
    torch.testing.assert_close(found[..., 1], action[..., 1])
    assert torch.autograd.gradcheck(lambda a: without_reversing(a, speed, 0.1), action.requires_grad_())


def test_bounds_narrow_the_curvature_with_speed() -> None:
    scale = ActionBounds(accel=(-6.0, 3.0), curvature=0.1, lateral=4.0).scale(torch.tensor([0.0, 20.0]))
    torch.testing.assert_close(scale, torch.tensor([[6.0, 0.1], [6.0, 0.01]]))


def test_knots_stand_for_sequences_and_are_found_again() -> None:
    spread, speed = interpolation(3, 9), torch.tensor([12.0, 20.0])
    scale = ActionBounds().scale(speed)[:, None, None]
    sequences = ActionSequences(spread, torch.linalg.pinv(spread), scale, speed, 0.1)
    knots = torch.rand(2, 4, 3, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    actions = sequences.actions(knots)
    assert actions.shape == (2, 4, 9, 2)
    torch.testing.assert_close(actions[:, :, ::4], knots * scale, atol=1e-4, rtol=0)
    torch.testing.assert_close(sequences.knots(actions), knots, atol=1e-5, rtol=1e-4)
