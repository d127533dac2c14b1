"""Two levels on a sequence: the upper one, with longer steps, sees further."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from worldmodel.nn import FrameEncoder
from worldmodel.ssl import Stacked, blank

NUM_STEPS, SPAN = 25, 4


def orbits(number: int) -> tuple[Tensor, Tensor]:
    """Points that go round and drift slowly, and what is seen of them through much noise."""
    turn, still = 0.25, 0.99
    rotation = still * torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    points = [torch.randn(number, 2)]
    for _ in range(NUM_STEPS - 1):
        points.append(points[-1] @ rotation.T + 0.14 * torch.randn(number, 2))
    truth = torch.stack(points, dim=1)
    return truth, truth + 0.7 * torch.randn_like(truth)


def errors_of_two_levels(stack: Stacked, truth: Tensor, seen: Tensor) -> tuple[dict[int, float], ...]:
    """Mean squared errors by how many steps ahead; the upper level's states are read by the lower one."""
    low, high = stack.levels
    codes = low.codes(seen)
    below = {
        step: (low.foresee(codes.hidden[:, :-step], step) - truth[:, step:]).square().mean().item()
        for step in range(1, 12)
    }
    upper, above = high.codes(codes.sequence).hidden, {}
    for pieces in (1, 2, 3):
        told = high.foresee(upper[:, :-pieces], pieces).unflatten(-1, (SPAN, -1))[..., : stack.hidden]
        frames = low.foresee(told.flatten(1, 2), 1).unflatten(1, (-1, SPAN))  # each tells the frame after it
        first = torch.arange(frames.shape[1])
        for place in range(SPAN):
            when = SPAN * (first + pieces) + place + 2
            inside = when < NUM_STEPS
            wrong = frames[:, inside, place] - truth[:, when[inside]]
            above[SPAN * (pieces - 1) + place + 2] = wrong.square().mean().item()
    return below, above


@pytest.mark.slow
@pytest.mark.proof("A7")
def test_the_upper_level_sees_further_and_the_codes_give_the_sequence_back(
    result: Callable[[str], None],
) -> None:
    torch.manual_seed(0)
    stack = Stacked(spans=(1, SPAN), hidden=8, latent=2, horizon=3)
    stack.build(2, 2, NUM_STEPS)
    optimizer = torch.optim.Adam(stack.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    for _ in range(200):
        _, seen = orbits(64)
        optimizer.zero_grad()
        stack.losses(seen, seen)["loss"].backward()
        optimizer.step()
        schedule.step()
    stack.eval()
    truth, seen = orbits(1000)
    with torch.no_grad():
        codes = stack.levels[0].codes(seen)
        given_back = stack.levels[0].explain(codes.hidden[:, :-1], codes.latent)
        below, above = errors_of_two_levels(stack, truth, seen)
    lost = ((given_back - seen[:, 1:]).square().mean() / seen.var()).item()
    reach = max((step for step, error in above.items() if error <= below[1]), default=0)
    assert lost < 0.02
    assert reach >= 4
    assert all(above[step] < below[step] for step in range(2, 9))
    result(
        f"level 2 is as good {reach} steps ahead as level 1 one step ahead (error {below[1]:.2f}); "
        f"its codes leave {100 * lost:.1g} % of the sequence unexplained"
    )


def test_clips_too_short_for_the_upper_level_are_refused() -> None:
    with pytest.raises(ValueError, match="3 steps make no two pieces of 4; lengthen the clip"):
        Stacked(spans=(1, 4)).attach(FrameEncoder(3, 4), blank((4, 3, 8, 4)))
