"""Reconstruction: every part of `E = C(y, Dec(Enc(corrupt(x)))) + R(z)` against what it has to give."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn

from tests.ssl.patch import PatchEncoder, digits, learn, minimise
from worldmodel.nn import FrameEncoder, SquaredError
from worldmodel.ssl import (
    Downscaled,
    FrameClip,
    FutureFrames,
    HiddenBox,
    MaskedFrames,
    MaskingNoise,
    Reconstruct,
    blank,
)

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


@pytest.mark.proof("G3")
def test_inpainting_beats_filling_in(result: Say) -> None:
    torch.manual_seed(0)
    image = digits()[0]
    seen, held_out = image[:1400, None], FrameClip(frames=image[1400:, None])
    encoder = dense(64)
    objective = Reconstruct(width=64, cost=SquaredError(), corrupt=HiddenBox(share=0.5))
    objective.attach(encoder, blank((1, 1, 8, 8)))
    learn(objective, encoder, FrameClip(frames=seen), steps=500, lr=3e-3)
    with torch.no_grad():
        pair = objective.pair(held_out)
        filled = objective.predict(encoder, pair)
    assert pair.weight is not None
    hidden = pair.weight.bool()
    mean = seen.mean(0).expand_as(filled)
    errors = {
        "ours": (filled - pair.target)[hidden].square().mean().item(),
        "mean": (mean - pair.target)[hidden].square().mean().item(),
        "nearest": (nearest_fill(pair.seen[:, 0], hidden) - pair.target)[hidden].square().mean().item(),
    }
    assert errors["ours"] < 0.75 * min(errors["mean"], errors["nearest"])
    result("squared error in the hole: " + ", ".join(f"{name} {value:.3f}" for name, value in errors.items()))


def dense(features: int) -> PatchEncoder:
    """A small network on whole digits."""
    encoder = PatchEncoder(1, features, (8, 8))
    encoder.layers = nn.Sequential(nn.Conv2d(1, 128, 8), nn.SiLU(), nn.Conv2d(128, features, 1), nn.SiLU())
    return encoder


def nearest_fill(frame: Tensor, hidden: Tensor) -> Tensor:
    """Each hidden pixel gets the value of the nearest one that is seen."""
    filled = frame.clone()
    for row, mask in enumerate(hidden[:, 0].numpy()):
        _, (i, j) = distance_transform_edt(mask, return_indices=True)
        filled[row, 0] = frame[row, 0][torch.from_numpy(i).long(), torch.from_numpy(j).long()]
    return filled


@pytest.mark.proof("G8")
def test_super_resolution_is_regression_and_beats_bicubic(result: Say) -> None:
    """Digits of 8 x 8 from blocks of 2 x 2; the linear optimum is known."""
    torch.manual_seed(0)
    image = digits()[0]
    seen, held_out = image[:1400], image[1400:]
    small = F.avg_pool2d(image, 2).flatten(1).numpy()
    known = LinearRegression().fit(small[:1400], seen.flatten(1).numpy())
    least = np.square(known.predict(small[:1400]) - seen.flatten(1).numpy()).mean()
    encoder = PatchEncoder(1, 16, (8, 8))
    objective = Reconstruct(width=0, cost=SquaredError(), corrupt=Downscaled(factor=2))
    objective.attach(encoder, blank((1, 1, 8, 8)))
    loss = minimise(objective, encoder, FrameClip(frames=seen[:, None]), num_steps=150)
    assert loss == pytest.approx(least, rel=0.03)
    bicubic = F.interpolate(F.avg_pool2d(held_out, 2), scale_factor=2, mode="bicubic", align_corners=False)
    with torch.no_grad():
        ours = objective.predict(encoder, objective.pair(FrameClip(frames=held_out[:, None])))
    signal = [-10 * (one - held_out).square().mean().log10().item() for one in (ours, bicubic)]
    assert signal[0] > signal[1] + 2
    result(
        f"error {loss:.5f} (least squares {least:.5f}); unseen digits {signal[0]:.1f} dB, bicubic {signal[1]:.1f}"
    )


def gratings(count: int, *, step: float) -> Tensor:
    """Waves that drift to the left or to the right, `(B, 4, 1, 8, 4)`, of mean square 1/2."""
    wave = torch.randint(1, 4, (count, 1, 1)) * 2 * torch.pi / 8
    side, phase = torch.randint(2, (count, 1, 1)) * 2 - 1, 2 * torch.pi * torch.rand(count, 1, 1)
    time, row = torch.arange(4)[:, None], torch.arange(8)
    frames = torch.cos(wave * row - side * step * time + phase)  # (B, T, H)
    return frames[:, :, None, :, None].expand(-1, -1, -1, -1, 4).double()


@pytest.mark.proof("H5")
def test_the_next_frame_is_as_well_told_as_it_can_be(result: Say) -> None:
    """From two frames of a wave the third follows; from one it follows but for its direction: `sin^2 / 2`."""
    torch.manual_seed(0)
    step, errors = 0.9, {}
    frames = gratings(2000, step=step)
    for num_seen in (1, 2):
        encoder = PatchEncoder(1, 16, (8, 4)).double()
        objective = Reconstruct(width=0, cost=SquaredError(), source=FutureFrames(num_seen=num_seen))
        objective.attach(encoder, blank((4, 1, 8, 4)))
        errors[num_seen] = minimise(objective.double(), encoder, FrameClip(frames=frames), num_steps=200)
    least = 0.5 * torch.tensor(step).sin().square().item()
    assert errors[1] == pytest.approx(least, rel=0.03)
    assert errors[2] < 1e-6
    result(f"squared error from one frame {errors[1]:.3f} (least {least:.3f}), from two {errors[2]:.0e}")


@pytest.mark.proof("H6")
def test_a_hidden_frame_is_as_well_told_as_it_can_be(result: Say) -> None:
    """Frames of a Gaussian process: each, given the others, has a known variance."""
    torch.manual_seed(0)
    time = torch.arange(4.0)
    covariance = torch.exp(-(time[:, None] - time).abs() / 3)
    count = 4000
    white = torch.randn(count, 4, 2)
    frames = torch.einsum("ts,bsp->btp", torch.linalg.cholesky(covariance), white)
    clip = FrameClip(frames=frames[:, :, None, :, None])
    encoder = PatchEncoder(1, 2, (2, 1))
    objective = Reconstruct(width=0, cost=SquaredError(), source=MaskedFrames(num_hidden=1))
    objective.attach(encoder, blank((4, 1, 2, 1)))
    optimizer = torch.optim.Adam([*encoder.parameters(), *objective.parameters()], lr=0.02)
    for step in range(300):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 - step / 300)
        optimizer.zero_grad()
        objective(encoder, clip)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        found = torch.stack([objective(encoder, clip)["loss"] for _ in range(5)]).mean().item()
    least = (1 / torch.linalg.inv(covariance).diagonal()).mean().item()
    copied = (2 * (1 - covariance[0, 1])).item()
    assert found == pytest.approx(least, rel=0.03) and found < 0.8 * copied
    result(
        f"squared error {found:.3f} (conditional variance {least:.3f}, the frame before copied {copied:.3f})"
    )
