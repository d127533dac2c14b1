"""Reconstruction: every part of `E = C(y, Dec(Enc(corrupt(x)))) + R(z)` against what it has to give."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.ssl.patch import PatchEncoder, digits, minimise
from worldmodel.nn import FrameEncoder, SquaredError
from worldmodel.ssl import FrameClip, MaskingNoise, Reconstruct, blank

Say = Callable[[str], None]


class Doubled(nn.Module):
    """A bottleneck whose price is known."""

    def forward(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        return 2 * cells, cells.new_tensor(3.0)


class Area(nn.Module):
    """A penalty that is called with everything it may read."""

    def forward(self, encoder: nn.Module, frame: Tensor, cells: Tensor) -> Tensor:
        assert isinstance(encoder, FrameEncoder) and frame.shape[1] == 3 and cells.shape[1] == 8
        return frame.new_tensor(float(frame.shape[2] * frame.shape[3]))


def test_losses_are_the_cost_and_what_the_parts_add() -> None:
    encoder = FrameEncoder(3, 8)
    objective = Reconstruct(bottleneck=Doubled(), penalty=Area(), penalty_weight=0.5)
    objective.attach(encoder, blank((2, 3, 13, 7)))
    losses = objective(encoder, FrameClip(frames=torch.rand(2, 2, 3, 13, 7)))
    torch.testing.assert_close(losses["loss"], losses["cost"] + 3.0 + 0.5 * 13 * 7)


def test_the_decoder_reads_the_map_behind_the_bottleneck() -> None:
    encoder, clip = FrameEncoder(3, 8), FrameClip(frames=torch.rand(2, 1, 3, 8, 4))
    plain = Reconstruct(width=0, cost=SquaredError())
    plain.attach(encoder, blank((1, 3, 8, 4)))
    doubled = Reconstruct(width=0, cost=SquaredError(), bottleneck=Doubled())
    doubled.attach(encoder, blank((1, 3, 8, 4)))
    doubled.decoder.load_state_dict(
        {name: value / (2 if "weight" in name else 1) for name, value in plain.decoder.state_dict().items()}
    )
    pair = plain.pair(clip)
    torch.testing.assert_close(plain.predict(encoder, pair), doubled.predict(encoder, pair))


def test_a_corrupted_frame_is_seen_and_the_clean_one_is_wanted() -> None:
    clip = FrameClip(frames=torch.rand(2, 3, 3, 8, 4))
    pair = Reconstruct(corrupt=MaskingNoise(probability=0.5)).pair(clip)
    assert torch.equal(pair.target, clip.frames.flatten(0, 1))
    lost = pair.seen[:, 0] == 0
    assert 0.4 < lost.float().mean().item() < 0.6
    assert torch.equal(pair.seen[:, 0][~lost], pair.target[~lost])


@pytest.mark.proof("D5")
def test_a_linear_tied_auto_encoder_finds_the_space_of_pca(result: Say) -> None:
    torch.manual_seed(0)
    image = digits()[0][::4].double()
    centred = image - image.mean(0)
    encoder = PatchEncoder(1, 6, (8, 8)).double()
    objective = Reconstruct(tied=True, cost=SquaredError()).double()
    objective.attach(encoder, blank((1, 1, 8, 8)))
    objective.double()
    loss = minimise(objective, encoder, FrameClip(frames=centred[:, None]))
    values, vectors = torch.linalg.eigh(torch.cov(centred.flatten(1).T, correction=0))
    left = values[:-6].sum().item() / 64
    assert abs(loss / left - 1) < 1e-6
    basis = torch.linalg.qr(encoder.layers[0].weight.flatten(1).T).Q
    cosines = torch.linalg.svdvals(basis.T @ vectors[:, -6:])
    assert cosines.min().item() > 1 - 1e-5
    result(f"6 of 64 components: error {loss:.3g} (PCA {left:.3g}), least cosine {cosines.min().item():.6f}")


@pytest.mark.proof("D5")
def test_an_overcomplete_auto_encoder_copies_anything(result: Say) -> None:
    """With as many features as pixels nothing is left to be learnt: noise is given back as well as digits."""
    torch.manual_seed(0)
    image = digits()[0][::8].double()
    image = image + torch.rand_like(image)  # no pixel is always dark
    errors = {}
    for features in (6, 80):
        encoder = PatchEncoder(1, features, (8, 8)).double()
        objective = Reconstruct(width=0, cost=SquaredError())
        objective.attach(encoder, blank((1, 1, 8, 8)))
        minimise(objective.double(), encoder, FrameClip(frames=image[:, None]), num_steps=200)
        noise = objective(encoder, FrameClip(frames=torch.rand(200, 1, 1, 8, 8, dtype=torch.float64)))
        errors[features] = noise["loss"].item()
    assert errors[80] < 0.05 * errors[6]
    result(f"error on noise: {errors[6]:.2g} with 6 features, {errors[80]:.2g} with 80")
