"""The forward model: null output, determinism, information flow, what it can learn."""

import pytest
import torch

from tests.models.factories import HISTORY, HORIZON, SPEC, make_clip, make_obs, shortened
from worldmodel.models import ForwardModel, GaussianLatent, masked_mse
from worldmodel.models.forward_model import Drift
from worldmodel.models.view import align
from worldmodel.nn import unshuffle
from worldmodel.types import Clip

AGO = 0.1 * torch.arange(HISTORY - 1, -1, -1.0)


def make_model(latent: GaussianLatent | None = None, **kwargs: float) -> ForwardModel:
    torch.manual_seed(0)
    return ForwardModel(spec=SPEC, history=HISTORY, channels=16, latent=latent, **kwargs)  # type: ignore[arg-type]


def make_latent(**kwargs: float) -> GaussianLatent:
    return GaussianLatent(16, 16, dim=4, **kwargs)  # type: ignore[arg-type]


def vehicles(clip: Clip) -> torch.Tensor:
    return clip.image[:, HISTORY:, 1:2].float() / 255


def test_untrained_model_repeats_the_newest_raster() -> None:
    clip = make_clip()
    frames = make_model().eval().unroll_clip(clip).logits.sigmoid()
    newest = (clip.image[:, HISTORY - 1, 1:2].float() / 255).clamp(0.01, 0.99)
    torch.testing.assert_close(frames, newest.unsqueeze(1).expand_as(frames), atol=1e-5, rtol=0)


def test_alignment_leaves_a_still_comoving_world_unchanged() -> None:
    """A car that drives like the ego is at the same pixels in every aligned frame of the history."""
    clip = make_clip()
    image = clip.image[:, :HISTORY].float() / 255
    aligned = align(image, clip.state[:, :HISTORY], AGO, spec=SPEC)
    torch.testing.assert_close(aligned, image, atol=1e-4, rtol=0)


def test_alignment_undoes_the_egos_braking() -> None:
    """The ego braked: seen from the co-moving frame, an old frame was drawn farther back."""
    clip = make_clip()
    state = clip.state[:, :HISTORY].clone()
    state[:, 0, 0] -= SPEC.resolution  # the oldest raster was drawn one pixel farther back
    aligned = align(clip.image[:, :HISTORY].float() / 255, state, AGO, spec=SPEC)
    oldest = clip.image[:, 0].float() / 255
    torch.testing.assert_close(aligned[:, 0, :, 1:], oldest[:, :, :-1], atol=1e-4, rtol=0)


def test_pixels_of_a_cell_are_laid_out_row_by_row() -> None:
    cells = torch.arange(16.0).reshape(1, 16, 1, 1).expand(1, 16, 2, 3)
    image = unshuffle(cells, (4, 2))
    assert image.shape == (1, 2, 8, 6)
    torch.testing.assert_close(image[:, 1], image[:, 0] + 8)
    assert image[0, 0, :4, :2].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_same_latents_same_future_and_other_latents_another() -> None:
    model = make_model(make_latent()).eval()
    torch.nn.init.normal_(model.decoder.weight, std=0.1)
    clip = make_clip()
    futures = [
        model.unroll_clip(clip, use_prior=True, generator=torch.Generator().manual_seed(seed)).logits
        for seed in (0, 0, 1)
    ]
    torch.testing.assert_close(futures[0], futures[1])
    assert (futures[0] - futures[2]).abs().max() > 1e-4


def test_dropout_masks_are_locked_for_the_whole_trajectory() -> None:
    model = make_model(dropout=0.5)
    memory = model.encode(make_obs())
    masks = model.sample_masks(memory.features, torch.Generator().manual_seed(0))
    assert len(masks) == model.depth + 1
    assert masks[0].unique().tolist() == [0.0, 2.0]
    torch.nn.init.normal_(model.decoder.weight, std=0.1)
    torch.nn.init.zeros_(model.decoder.weight[:2])  # velocities add up over the steps; residuals do not
    one, _ = model.decode(torch.stack([memory.features] * 2, dim=1), memory.seen, masks)
    torch.testing.assert_close(one[:, : model.stride], one[:, model.stride :])  # no redraw between steps


def test_future_frames_do_not_leak_through_the_prior() -> None:
    model = make_model(make_latent()).eval()
    torch.nn.init.normal_(model.decoder.weight, std=0.1)
    clip, other = make_clip(), make_clip()
    other.image[:, HISTORY:] = 0
    predicted = [
        model.unroll_clip(one, use_prior=True, generator=torch.Generator().manual_seed(0)).logits
        for one in (clip, other)
    ]
    torch.testing.assert_close(*predicted)


@pytest.mark.slow
@pytest.mark.parametrize("has_latent", [False, True])
def test_one_batch_can_be_overfitted(has_latent: bool) -> None:
    """A car pulling away at 6 m/s: copying is wrong by 6 m at the end, the model learns the motion."""
    torch.manual_seed(0)
    model = make_model(make_latent(beta=1e-4) if has_latent else None, dropout=0.0)
    clip = make_clip(batch=2, relative_speed=6.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    errors = []
    for _ in range(80):
        unroll = model.unroll_clip(clip)
        error = masked_mse(unroll.logits, vehicles(clip), clip.covered[:, HISTORY:])
        optimizer.zero_grad()
        (error + unroll.penalty.mean()).backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.4 * errors[0]


def test_gradient_reaches_every_parameter() -> None:
    model = make_model(make_latent(z_dropout=0.0, beta=1.0))
    torch.nn.init.normal_(model.decoder.weight, std=0.1)
    for block in model.core:
        torch.nn.init.normal_(block.second.weight, std=0.1)  # type: ignore[union-attr,arg-type]
    clip = make_clip(relative_speed=2.0)
    unroll = model.unroll_clip(clip)
    (masked_mse(unroll.logits, vehicles(clip), clip.covered[:, HISTORY:]) + unroll.penalty.mean()).backward()
    silent = [name for name, part in model.named_parameters() if part.grad is None or not part.grad.any()]
    assert silent == []


def test_other_rasters_are_refused() -> None:
    obs = make_obs()
    model = ForwardModel(spec=SPEC, history=HISTORY + 1)
    with pytest.raises(ValueError, match=r"\(4, 3, 32, 16\), this model reads \(5, 3, 32, 16\)"):
        model.encode(obs)


def test_horizon_need_not_be_a_multiple_of_the_stride() -> None:
    clip = make_clip()
    short = Clip(
        clip.image[:, :-3],
        clip.state[:, :-3],
        clip.action[:, :-3],
        clip.view[:, :-3],
        clip.covered[:, :-3],
        clip.size,
        clip.road,
        clip.origin,
    )
    assert make_model().unroll_clip(short).logits.shape == (2, HORIZON - 3, 1, 32, 16)


def test_given_latents_are_the_ones_used() -> None:
    model = make_model(make_latent(z_dropout=0.0)).eval()
    torch.nn.init.normal_(model.decoder.weight, std=0.1)
    clip = make_clip()
    latents = model.infer_latents(clip, torch.Generator().manual_seed(3))
    assert latents.shape == (2, -(-HORIZON // model.stride), 4)
    given = model.unroll_clip(clip, latents=latents)
    drawn = model.unroll_clip(clip, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(given.logits, drawn.logits)
    assert given.penalty.tolist() == [0.0, 0.0]
    assert (model.unroll_clip(clip, latents=latents + 1).logits - given.logits).abs().max() > 1e-4


def gradients(model: ForwardModel, clip: Clip, **kwargs: object) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model.unroll_clip(clip, use_prior=True, **kwargs).logits.square().mean().backward()  # type: ignore[arg-type, no-untyped-call]
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def test_recomputed_activations_give_the_same_gradient_and_truncation_another() -> None:
    model = make_model().eval()
    torch.nn.init.normal_(model.decoder.weight, std=0.1)
    clip = make_clip()
    full = gradients(model, clip)
    recomputed = gradients(model, clip, checkpoint_activations=True)
    truncated = gradients(model, clip, detach_every=1)
    assert full.keys() == recomputed.keys()
    for name, gradient in full.items():
        torch.testing.assert_close(recomputed[name], gradient)
    assert (truncated["mixer.0.weight"] - full["mixer.0.weight"]).abs().max() > 1e-7
    residual = slice(2, None)  # of each step alone; velocities add up over the steps
    torch.testing.assert_close(truncated["decoder.weight"][residual], full["decoder.weight"][residual])


@pytest.mark.parametrize(
    ("detach_every", "reached"),
    [(None, [0, 1, 2, 3, 4]), (1, [4]), (2, [4]), (3, [3, 4]), (9, [0, 1, 2, 3, 4])],
)
def test_truncated_frames_reach_no_earlier_group(
    detach_every: int | None, reached: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five core steps; the last one's frames pull at the hidden maps of their own group only."""
    model = make_model(stride=2).eval()
    for weight in (model.decoder.weight, *(block.second.weight for block in model.core)):
        torch.nn.init.normal_(weight, std=0.1)  # type: ignore[arg-type]
    clip, hidden = make_clip(), list[torch.Tensor]()
    whole = model.unroll_clip(clip).logits

    def advance(*args: object) -> torch.Tensor:
        hidden.append(ForwardModel.advance(model, *args))  # type: ignore[arg-type]
        hidden[-1].retain_grad()
        return hidden[-1]

    monkeypatch.setattr(model, "advance", advance)
    logits = model.unroll_clip(clip, detach_every=detach_every).logits
    torch.testing.assert_close(logits, whole, atol=1e-4, rtol=0)
    logits[:, -2:].square().mean().backward()  # type: ignore[no-untyped-call]
    assert [index for index, one in enumerate(hidden) if one.grad is not None and one.grad.any()] == reached


def test_a_velocity_carries_on() -> None:
    """A change of velocity in the first step only: the car goes on with it, 0.5 m a step farther."""
    model = make_model().eval()
    memory = model.encode(make_obs())
    steps = torch.zeros(2, 3, *memory.features.shape[1:])
    logits, drift = model.decode(steps, memory.seen, before=None)
    torch.testing.assert_close(drift.travelled, torch.zeros_like(drift.travelled))
    before = drift._map(lambda part: part + torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1))
    logits, after = model.decode(steps, memory.seen, before=before)
    torch.testing.assert_close(after.travelled[:, 0], torch.full_like(after.travelled[:, 0], 1.0 + 3 * 0.5))
    last = logits[:, -1].sigmoid()
    rows = torch.arange(SPEC.height, dtype=torch.float32).reshape(-1, 1)

    def middle(image: torch.Tensor) -> torch.Tensor:
        weight = (image[:, 0] - 0.02).clamp_min(0)
        return (weight * rows).sum((-1, -2)) / weight.sum((-1, -2))

    moved = (middle(memory.seen.image) - middle(last)) * SPEC.resolution
    torch.testing.assert_close(moved, torch.full((2,), 2.5), atol=0.1, rtol=0)


def test_chosen_frames_are_those_of_the_whole_decoding() -> None:
    model = make_model().eval()
    torch.nn.init.normal_(model.decoder.weight, std=0.1)
    clip = make_clip(relative_speed=3.0)
    assert model.decoded_frames(HORIZON, [1, 4]) == [1, 4, 6, 9]
    some = model.unroll_clip(clip, frames=[1, 4]).logits
    torch.testing.assert_close(some, model.unroll_clip(clip).logits[:, [1, 4, 6, 9]])


def test_the_drift_that_the_posterior_expects_is_the_decoders() -> None:
    model = make_model(make_latent(z_dropout=0.0)).eval()
    torch.nn.init.normal_(model.decoder.weight, std=0.1)
    memory = model.encode(make_obs())
    steps = torch.randn(2, 3, *memory.features.shape[1:], generator=torch.Generator().manual_seed(0))
    _, expected = model.decode(steps, memory.seen)
    nil = torch.zeros_like(expected.velocity)
    drift = Drift(nil, nil)
    for index in range(3):
        drift = model.drift(steps[:, index], drift)
    torch.testing.assert_close(drift.velocity, expected.velocity)
    torch.testing.assert_close(drift.travelled, expected.travelled)


@pytest.mark.parametrize(("horizon", "travelled"), [(10, [1.0, 3.0]), (7, [1.0, 1.8]), (3, [0.6])])
def test_the_posterior_expects_the_drift_by_the_frame_that_it_sees(
    horizon: int, travelled: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Core steps of 0.5 s, at 2 and 4 m/s; in the last one the clip may end before the step does."""
    model = make_model(make_latent()).eval()
    with torch.no_grad():
        model.decoder.bias[0] = 1.0  # type: ignore[index]
    seen: list[float] = []

    def surprise(future: torch.Tensor, newest: torch.Tensor, expected: Drift) -> torch.Tensor:
        seen.append(float(expected.travelled[:, 0].unique()))
        return ForwardModel.surprise(model, future, newest, expected)

    monkeypatch.setattr(model, "surprise", surprise)
    model.infer_latents(shortened(make_clip(), horizon))
    assert seen == pytest.approx(travelled)


def test_nothing_surprises_where_the_future_is_as_expected() -> None:
    """A model at birth expects that everybody keeps their offset; a car that does surprises by nothing."""
    model = make_model(make_latent()).eval()
    seen: list[torch.Tensor] = []
    model.surprise_encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for speed in (0.0, 2.0):
        model.infer_latents(make_clip(relative_speed=speed))
    half = len(seen) // 2
    assert max(float(one[:, 2].abs().max()) for one in seen[:half]) < 0.01
    assert max(float(one[:, 2].abs().max()) for one in seen[half:]) > 0.3
