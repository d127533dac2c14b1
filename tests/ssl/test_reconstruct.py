"""Reconstruction: every part of `E = C(y, Dec(Enc(corrupt(x)))) + R(z)` against what it has to give."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from skimage import data
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import Tensor, nn

from tests.ssl.patch import PatchEncoder, digits, learn, minimise
from worldmodel.nn import FrameCost, FrameEncoder, QuantisedCrossEntropy, SquaredError
from worldmodel.ssl import (
    Colours,
    Downscaled,
    EgoState,
    FeatureShare,
    FrameClip,
    FutureFrames,
    HiddenBox,
    MaskedFrames,
    MaskingNoise,
    OtherChannels,
    Reconstruct,
    Sum,
    blank,
    coloured,
)
from worldmodel.ssl.source import CHROMA

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


@pytest.mark.slow
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


@pytest.mark.slow
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


def dense(features: int, *, channels: int = 1, size: tuple[int, int] = (8, 8)) -> PatchEncoder:
    """A small network on whole digits."""
    encoder = PatchEncoder(channels, features, size)
    encoder.layers = nn.Sequential(
        nn.Conv2d(channels, 128, size), nn.SiLU(), nn.Conv2d(128, features, 1), nn.SiLU()
    )
    return encoder


def nearest_fill(frame: Tensor, hidden: Tensor) -> Tensor:
    """Each hidden pixel gets the value of the nearest one that is seen."""
    filled = frame.clone()
    for row, mask in enumerate(hidden[:, 0].numpy()):
        _, (i, j) = distance_transform_edt(mask, return_indices=True)
        filled[row, 0] = frame[row, 0][torch.from_numpy(i).long(), torch.from_numpy(j).long()]
    return filled


@pytest.mark.slow
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
        f"error {loss:.4f} (least squares {least:.4f}); unseen {signal[0]:.1f} dB, bicubic {signal[1]:.1f} dB"
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.proof("G5")
def test_photographs_get_their_colours_by_classes_with_weights(result: Say) -> None:
    """Squared error and plain classes are paler than the truth, rebalanced classes are not."""
    photos = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    tiles = torch.cat([squares(one, 16) for one in photos])
    clip, chroma = FrameClip(frames=tiles[:, None]), {}
    classes = {"num_levels": 11, "low": -1.0, "high": 1.0, "channels": 2}
    costs: dict[str, FrameCost] = {
        "squared error": SquaredError(),
        "classes": QuantisedCrossEntropy(**classes, rebalance=1.0),
        "rare ones weighted": QuantisedCrossEntropy(**classes, rebalance=0.5),
    }
    for name, cost in costs.items():
        torch.manual_seed(0)
        encoder = PatchEncoder(3, 24, (4, 4))
        encoder.layers.extend([nn.SiLU(), nn.Conv2d(24, 24, 3, padding=1)])
        objective = Reconstruct(width=0, source=Colours(), cost=cost)
        objective.attach(encoder, blank((1, 3, 16, 16)))
        objective.refit(encoder, [clip])
        learn(objective, encoder, clip, steps=100, lr=5e-3, batch=16)
        with torch.no_grad():
            pair = objective.pair(clip)
            chroma[name] = (CHROMA * objective.predict(encoder, pair)).norm(dim=1).mean().item()
    chroma["truth"] = (CHROMA * pair.target).norm(dim=1).mean().item()
    pale = max(chroma["squared error"], chroma["classes"])
    assert pale < 0.95 * chroma["truth"] and chroma["rare ones weighted"] > chroma["truth"]
    torch.testing.assert_close(coloured(pair.seen[:, 0], pair.target), tiles, atol=1e-3, rtol=0)
    result("mean chroma: " + ", ".join(f"{name} {value:.1f}" for name, value in chroma.items()))


def squares(photo: np.ndarray, side: int) -> Tensor:
    """A photograph at a quarter of its size, in square tiles, `(B, 3, side, side)`."""
    image = F.avg_pool2d(torch.from_numpy(photo).float().movedim(-1, 0) / 255, 4)
    rows, columns = (size // side for size in image.shape[1:])
    tiles = image[:, : rows * side, : columns * side].unflatten(2, (columns, side)).unflatten(1, (rows, side))
    return tiles.movedim((1, 3), (0, 1)).flatten(0, 1)


@pytest.mark.slow
@pytest.mark.proof("G6")
def test_a_split_brain_knows_more_than_its_halves(result: Say) -> None:
    """The upper half of a digit in one channel, the lower in the other: together they say which digit."""
    torch.manual_seed(0)
    image, digit = digits()
    halves = image.unflatten(2, (2, 4)).squeeze(1)  # (B, 2, 4, 8)
    encoder = dense(32, channels=2, size=(4, 8))
    parts = {
        str(one): Reconstruct(
            width=64,
            cost=SquaredError(),
            source=OtherChannels(seen=[one], target=[1 - one]),
            bottleneck=FeatureShare(index=one, of=2),
        )
        for one in (0, 1)
    }
    objective = Sum(parts)
    objective.attach(encoder, blank((1, 2, 4, 8)))
    learn(objective, encoder, FrameClip(frames=halves[:1000, None]), steps=400)
    codes = []
    for part in parts.values():
        assert part.bottleneck is not None
        with torch.no_grad():
            codes.append(part.bottleneck(encoder(part.pair(FrameClip(halves[:, None])).seen[:, 0]))[0])
    score = {
        name: accuracy(code.flatten(1), digit)
        for name, code in {"upper": codes[0], "lower": codes[1], "both": codes[0] + codes[1]}.items()
    }
    assert score["both"] > max(score["upper"], score["lower"]) + 0.05
    result("accuracy of a linear probe: " + ", ".join(f"{name} {value:.2f}" for name, value in score.items()))


def accuracy(code: Tensor, label: Tensor, *, known: int = 1000) -> float:
    """Of a linear classifier on what the first rows tell."""
    found = LogisticRegression(max_iter=500).fit(code[:known].numpy(), label[:known].numpy())
    return float(found.score(code[known:].numpy(), label[known:].numpy()))


@pytest.mark.slow
@pytest.mark.proof("G7")
def test_speed_is_read_off_two_frames_and_not_off_one(result: Say) -> None:
    torch.manual_seed(0)
    count, errors = 2000, {}
    speed, phase = 2 * torch.rand(count, 1) - 1, 2 * torch.pi * torch.rand(count, 1)
    time, row = torch.arange(2.0), torch.arange(8)
    wave = torch.cos(torch.pi / 4 * row - speed[..., None] * time[:, None] + phase[..., None])  # (B, T, H)
    state = torch.cat([torch.zeros(count, 2, 3), speed[:, None].expand(-1, 2, -1)], 2)
    frames = wave[:, :, None, :, None].expand(-1, -1, -1, -1, 4)
    clip = FrameClip(frames=frames, state=state, action=torch.zeros(count, 1, 2))
    for num_seen in (1, 2):
        encoder = PatchEncoder(1, 8, (8, 4))
        source = EgoState(num_seen=num_seen, scale=(1.0, 1.0, 1.0))
        objective = Reconstruct(width=64, cost=SquaredError(), source=source)
        objective.attach(encoder, blank((2, 1, 8, 4)))
        learn(objective, encoder, clip[:1500], steps=300, lr=1e-2)
        with torch.no_grad():
            pair = objective.pair(clip[1500:])
            found = objective.predict(encoder, pair)
        errors[num_seen] = (found - pair.target)[:, 0].square().mean().item()
    variance = speed[1500:].var().item()
    assert errors[2] < 0.1 * variance and errors[1] > 0.9 * variance
    shares = [errors[number] / variance for number in (1, 2)]
    result(f"variance of the speed left: {shares[0]:.2f} by one frame, {shares[1]:.2f} by two")


def test_a_clip_without_instruments_is_refused() -> None:
    with pytest.raises(ValueError, match="no states or actions of the ego"):
        EgoState()(FrameClip(frames=torch.rand(2, 2, 3, 8, 4)))


def test_a_clip_too_short_for_the_future_is_refused() -> None:
    with pytest.raises(ValueError, match="2 frames seen and 1 future ones in a clip of 2"):
        FutureFrames(num_seen=2)(FrameClip(frames=torch.rand(2, 2, 3, 8, 4)))
