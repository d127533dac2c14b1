"""Inpainting with a critic: each player has its own gradient, and what is filled in is sharp."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.ssl.patch import PatchEncoder, learn
from worldmodel.nn import FrameCost, SquaredError
from worldmodel.ssl import FrameClip, HiddenBox, Judged, Logistic, PatchCritic, Reconstruct, blank

Say = Callable[[str], None]


def test_each_player_has_its_own_gradient() -> None:
    torch.manual_seed(0)
    cost = Judged(critic=PatchCritic(2), weight=0.5)
    output, target = torch.rand(3, 2, 8, 8, requires_grad=True), torch.rand(3, 2, 8, 8)
    hole = torch.zeros(3, 1, 8, 8)
    hole[:, :, 2:6, 2:6] = 1
    cost(output, target, hole).backward()
    pasted = torch.where(hole.bool(), output, target)
    own = list(cost.critic.parameters())
    told = torch.autograd.grad(Logistic().energy_loss(cost.critic, target, pasted.detach()), own)
    torch.testing.assert_close([one.grad for one in own], list(told))
    loss = SquaredError()(output, target, hole) + 0.5 * Logistic().generator_loss(cost.critic(pasted))
    torch.testing.assert_close(output.grad, torch.autograd.grad(loss, output)[0])


def blocks(count: int) -> Tensor:
    """Black and white squares of 2 x 2 pixels without order: `(B, 1, 8, 8)`."""
    return torch.rand(count, 1, 4, 4).round().repeat_interleave(2, 2).repeat_interleave(2, 3)


def sharpness(frame: Tensor, hole: Tensor) -> float:
    """The mean square of the differences of neighbours within the hole."""
    across = frame.diff(dim=-1).square() * hole[..., 1:] * hole[..., :-1]
    along = frame.diff(dim=-2).square() * hole[..., 1:, :] * hole[..., :-1, :]
    return ((across.sum() + along.sum()) / hole.sum()).item()


@pytest.mark.slow
@pytest.mark.proof("G4")
def test_what_a_critic_has_judged_is_sharper_than_the_mean(result: Say) -> None:
    found = {}
    costs: dict[str, FrameCost] = {
        "squared error": SquaredError(),
        "with a critic": Judged(critic=PatchCritic(1), weight=0.3),
    }
    for name, cost in costs.items():
        torch.manual_seed(0)
        clip = FrameClip(frames=blocks(1000)[:, None])
        encoder = PatchEncoder(1, 16, (2, 2))
        encoder.layers = nn.Sequential(
            nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.SiLU(), nn.Conv2d(16, 16, 3, padding=1), nn.SiLU()
        )
        objective = Reconstruct(width=32, cost=cost, corrupt=HiddenBox(share=0.5))
        objective.attach(encoder, blank((1, 1, 8, 8)))
        learn(objective, encoder, clip, steps=400, batch=32, lr=3e-3)
        with torch.no_grad():
            pair = objective.pair(clip)
            assert pair.weight is not None
            found[name] = sharpness(objective.predict(encoder, pair), pair.weight)
            found["truth"] = sharpness(pair.target, pair.weight)
    assert abs(found["with a critic"] - found["truth"]) < 0.6 * abs(found["squared error"] - found["truth"])
    result("energy of the differences: " + ", ".join(f"{name} {value:.2f}" for name, value in found.items()))
