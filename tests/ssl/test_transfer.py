"""What is learnt on one task helps on another, of which few examples are known."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.ssl.patch import digits
from worldmodel.evaluation.linear_probe import fit_ridge
from worldmodel.models import save_model
from worldmodel.models.pretrained import load_encoder
from worldmodel.nn import FrameEncoder
from worldmodel.ssl import FrameClip, MaskingNoise, Pretraining, Reconstruct


def right(rows: Tensor, label: Tensor, *, per_class: int = 5, num_draws: int = 8) -> float:
    """The share of digits that a linear classifier names rightly, taught with so many of each."""
    shares = []
    for seed in range(num_draws):
        order = torch.randperm(len(label), generator=torch.Generator().manual_seed(seed))
        known = torch.cat([order[label[order] == digit][:per_class] for digit in range(10)])
        asked = order[~torch.isin(order, known)]
        told = fit_ridge(rows[known], F.one_hot(label[known], 10).float())(rows[asked])
        shares.append((told.argmax(1) == label[asked]).float().mean())
    return torch.stack(shares).mean().item()


def codes(encoder: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        return encoder(image).flatten(1)


@pytest.mark.slow
@pytest.mark.proof("A9")
def test_an_encoder_learnt_without_labels_helps_where_labels_are_few(
    result: Callable[[str], None], tmp_path: Path
) -> None:
    """From giving back masked digits to naming them, with five of each; through a checkpoint."""
    torch.manual_seed(0)
    image, label = digits()
    model = Pretraining(FrameEncoder(1, 16), Reconstruct(corrupt=MaskingNoise(probability=0.5)), (1, 1, 8, 8))
    untrained = right(codes(model.encoder, image), label)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(400):
        clip = FrameClip(frames=image[torch.randint(len(image), (128,)), None])
        optimizer.zero_grad()
        model(clip)["loss"].backward()
        optimizer.step()
    save_model(model.eval(), tmp_path / "ssl.pt")
    transferred = right(codes(load_encoder(tmp_path / "ssl.pt"), image), label)
    pixels = right(image.flatten(1), label)
    assert transferred > untrained + 0.015
    assert transferred > pixels + 0.04
    result(
        f"digits named rightly after five of each: {100 * transferred:.0f} %, "
        f"untrained {100 * untrained:.0f} %, pixels {100 * pixels:.0f} %"
    )
