"""Why turned frames and black patches teach little about cars, where nothing else tells of the cars."""

from collections.abc import Callable

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tests.ssl.patch import PatchEncoder, learn
from worldmodel.evaluation.linear_probe import fit_ridge, r_squared
from worldmodel.ssl import Classify, Flipped, FrameClip, HiddenPatches, Objective, Reconstruct, blank

Say = Callable[[str], None]


def scenes(count: int) -> tuple[FrameClip, Float[Tensor, "B 2"]]:
    """The ego, always at the same place, and a car anywhere within one of eight patches; where it is."""
    patch = torch.stack([torch.randint(4, (count,)), torch.randint(2, (count,))], 1)
    corner = 4 * patch + torch.randint(3, (count, 2))
    row, column = torch.arange(16), torch.arange(8)
    along = (row - corner[:, :1] >= 0) & (row - corner[:, :1] < 2)
    across = (column - corner[:, 1:] >= 0) & (column - corner[:, 1:] < 2)
    car = (along[:, :, None] & across[:, None, :]).float()
    ego = torch.zeros_like(car)
    ego[:, 12:15, 1:3] = 1
    return FrameClip(frames=torch.stack([car, ego], 1)[:, None]), corner.float()


@pytest.mark.slow
@pytest.mark.proof("G9", "D11")
def test_turned_frames_and_black_patches_teach_little_about_cars(result: Say) -> None:
    """The ego gives away which way a frame is turned; no patch tells of a car in another."""
    torch.manual_seed(0)
    (clip, label), (held_out, expected) = scenes(2000), scenes(500)
    objectives: dict[str, Objective | None] = {
        "untrained": None,
        "turned": Classify(Flipped()),
        "black patches": Reconstruct(width=64, corrupt=HiddenPatches(patch=(4, 4), ratio=0.75)),
        "auto-encoder": Reconstruct(width=64),
    }
    found = {}
    for name, objective in objectives.items():
        torch.manual_seed(1)
        encoder = PatchEncoder(2, 8, (16, 8))
        encoder.layers = nn.Sequential(nn.Conv2d(2, 64, (16, 8)), nn.SiLU(), nn.Conv2d(64, 8, 1))
        if objective is not None:
            objective.attach(encoder, blank((1, 2, 16, 8)))
            learn(objective, encoder, clip, steps=300, lr=5e-3)
        with torch.no_grad():
            readout = fit_ridge(encoder(clip.frames[:, 0]).flatten(1), label)
            told = readout(encoder(held_out.frames[:, 0]).flatten(1))
        found[name] = r_squared(told, expected).mean().item()
    assert max(found["turned"], found["black patches"]) < found["auto-encoder"] - 0.05, found
    result("R2 of the car's place: " + ", ".join(f"{name} {value:.2f}" for name, value in found.items()))
