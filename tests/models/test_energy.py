"""The energy view: its terms, three ways to infer z, the free energy, and two ways a latent goes wrong."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from tests.models.factories import HISTORY, SPEC, make_clip
from worldmodel.models import ForwardModel, GaussianLatent
from worldmodel.models.diagnosis import EnergyGap, energy_gap, exchange_futures, latent_use
from worldmodel.models.energy import (
    ClipEnergy,
    EnergyTerms,
    compare_inference,
    free_energy,
    infer_by_encoder,
    infer_by_gradient,
    infer_by_search,
    prior_latents,
)
from worldmodel.types import Clip

VEHICLES = 1


def clips(batch: int = 4) -> Clip:
    """Windows whose car is somewhere else in each, and closes in by 2 m/s."""
    clip = make_clip(batch, relative_speed=-2.0)
    rows = [image.roll(5 * index, -2) for index, image in enumerate(clip.image)]
    return replace(clip, image=torch.stack(rows))


def logits_of(clip: Clip, start: int, stop: int | None = None) -> Tensor:
    return torch.logit((clip.image[:, start:stop, VEHICLES].float() / 255).clamp(0.01, 0.99))


class Toy:
    """Copies the newest raster and adds what `decode` makes of z, which is all that `encode` sees."""

    spec, history, training = SPEC, HISTORY, False

    def __init__(self, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor]) -> None:
        self.encode, self.decode = encode, decode

    def infer_latents(self, clip: Clip, generator: torch.Generator | None = None) -> Tensor:
        change = logits_of(clip, HISTORY) - logits_of(clip, HISTORY - 1, HISTORY)
        return self.encode(change).unsqueeze(1)

    def unroll_clip(self, clip: Clip, *, latents: Tensor | None = None) -> SimpleNamespace:
        assert latents is not None
        copied = logits_of(clip, HISTORY - 1, HISTORY)
        future = clip.image.shape[1] - HISTORY
        change = self.decode(latents[:, 0]).expand(-1, future, SPEC.height, SPEC.width)
        return SimpleNamespace(logits=(copied + change).unsqueeze(2))


def unlimited() -> Toy:
    """Every pixel of the future is in z."""
    return Toy(lambda change: change.flatten(1), lambda z: z.unflatten(1, (-1, SPEC.height, SPEC.width)))


def limited() -> Toy:
    """Z is one number, the mean change."""
    return Toy(lambda change: change.mean((1, 2, 3)).unsqueeze(1), lambda z: z[:, :, None, None])


def forward_model() -> ForwardModel:
    """A small forward model whose decoder listens to its features, and so to z."""
    torch.manual_seed(0)
    model = ForwardModel(spec=SPEC, history=HISTORY, channels=8, depth=1, latent=GaussianLatent(8, 16, dim=4))
    for name, part in model.named_parameters():
        if "decoder" in name or "mix" in name:
            torch.nn.init.normal_(part, std=0.3)
    return model.eval()


def quadratic(centre: Tensor) -> Callable[[Tensor], EnergyTerms]:
    """A known minimum: `1/2 |z - centre|^2`."""

    def energy(z: Tensor) -> EnergyTerms:
        value = 0.5 * (z - centre).square().sum((-2, -1))
        return EnergyTerms(value, torch.zeros_like(value), torch.zeros_like(value))

    return energy


def test_the_energy_is_the_sum_of_its_weighted_terms() -> None:
    clip, model = clips(), forward_model()
    generators = [torch.Generator().manual_seed(0) for _ in range(3)]
    plain = ClipEnergy(model, clip, generator=generators[0])
    full = ClipEnergy(model, clip, distance_weight=3.0, weight=0.5, generator=generators[1])
    z = torch.randn(full.guess.shape, generator=generators[2])
    torch.testing.assert_close(plain.guess, full.guess)
    expected = (
        plain(z).error + 1.5 * (z - full.guess).square().sum((-2, -1)) + 0.25 * z.square().sum((-2, -1))
    )
    torch.testing.assert_close(full(z).total, expected)
    assert float(full(full.guess).distance.abs().max()) == 0.0


def test_a_perfect_prediction_has_no_error() -> None:
    energy = ClipEnergy(unlimited(), clips())
    assert float(energy(energy.guess).error.max()) < 1e-3


def test_uncovered_rows_cost_nothing() -> None:
    clip = clips()
    covered = torch.zeros_like(clip.covered)
    assert (
        ClipEnergy(limited(), replace(clip, covered=covered))(torch.ones(4, 1, 1)).total.tolist() == [0.0] * 4
    )


def test_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"call model\.eval\(\)"):
        ClipEnergy(forward_model().train(), clips())


def test_descent_finds_the_minimum_of_a_quadratic() -> None:
    centre = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(1))
    found = infer_by_gradient(quadratic(centre), torch.zeros(3, 2, 4), num_steps=200)
    torch.testing.assert_close(found.latents, centre, atol=0.02, rtol=0)


@pytest.mark.parametrize("lr", [0.1, 100.0])  # the second overshoots at every step
def test_descent_is_never_worse_than_its_start(lr: float) -> None:
    energy = ClipEnergy(forward_model(), clips(), weight=1e-4)
    guess = infer_by_encoder(energy)
    found = infer_by_gradient(energy, guess.latents, num_steps=5, lr=lr)
    assert bool((found.energy <= guess.energy).all())
    torch.testing.assert_close(energy(found.latents).total.detach(), found.energy)  # the energy is that of z
    assert (lr > 1) or bool((found.energy < guess.energy).all())


def test_descent_leaves_the_weights_without_gradient() -> None:
    model = forward_model()
    energy = ClipEnergy(model, clips())
    infer_by_gradient(energy, energy.guess, num_steps=1)
    assert all(part.grad is None for part in model.parameters())


def test_search_takes_the_best_candidate_of_each_window() -> None:
    centre = torch.tensor([[[0.0]], [[2.0]]])
    candidates = torch.tensor([0.1, 1.0, 1.8])[:, None, None, None].expand(3, 2, 1, 1)
    found, energies = infer_by_search(quadratic(centre), candidates)
    torch.testing.assert_close(found.latents.flatten(), torch.tensor([0.1, 1.8]))
    torch.testing.assert_close(found.energy, energies.amin(0))
    with pytest.raises(ValueError, match="no candidates"):
        infer_by_search(quadratic(centre), [])


def test_the_free_energy_lies_between_the_least_and_the_mean() -> None:
    energies = torch.tensor([[1.0], [2.0], [4.0]])
    cold, warm, hot = (float(free_energy(energies, inverse_temperature=b)) for b in (1e3, 1.0, 1e-4))
    assert cold == pytest.approx(1.0, abs=0.01) and hot == pytest.approx(7 / 3, abs=0.01)
    assert cold < warm < hot
    assert warm == pytest.approx(-float(torch.log(torch.exp(-energies).mean())))


def test_ways_of_inference_come_with_their_energies() -> None:
    model, clip = forward_model(), clips()
    candidates = prior_latents(model, clip, num_samples=3, generator=torch.Generator().manual_seed(0))
    assert candidates.shape == (3, 4, 2, 4)  # two steps of the core, dim 4
    energy = ClipEnergy(model, clip)
    found = compare_inference(energy, candidates, num_steps=3)
    assert compare_inference(energy, candidates, num_steps=0).gradient is None
    for way in (found.encoder, found.gradient, found.search):
        assert way is not None
        torch.testing.assert_close(energy(way.latents).total.detach(), way.energy)
        assert bool((found.minimum <= way.energy).all())
    assert bool((found.free_energy >= found.search.energy - 1e-6).all())


def test_prior_latents_are_draws_of_the_prior() -> None:
    drawn = prior_latents(
        forward_model(), clips(64), num_samples=4, generator=torch.Generator().manual_seed(0)
    )
    assert abs(float(drawn.mean())) < 0.1 and float(drawn.std()) == pytest.approx(1.0, abs=0.1)


def test_futures_are_exchanged_and_pasts_are_not() -> None:
    clip = clips(3)
    other = exchange_futures(clip, HISTORY)
    assert torch.equal(other.image[:, :HISTORY], clip.image[:, :HISTORY])
    assert torch.equal(other.image[2, HISTORY:], clip.image[0, HISTORY:])
    with pytest.raises(ValueError, match="no other future"):
        exchange_futures(clips(1), HISTORY)


def test_an_unlimited_latent_flattens_the_energy() -> None:
    clip = clips()
    toy = unlimited()
    gap = energy_gap(toy, clip, torch.zeros_like(toy.infer_latents(clip)))
    assert gap.is_flat and gap.retained < 0.02 and gap.prior_gap > 0.01


@pytest.mark.parametrize("num_steps", [0, 30])
def test_a_limited_latent_keeps_the_gap(num_steps: int) -> None:
    gap = energy_gap(limited(), clips(), torch.zeros(4, 1, 1), num_steps=num_steps)
    assert not gap.is_flat and gap.accuracy == 1.0
    assert 0.7 < gap.retained < 1.1


def test_descent_flattens_the_energy_of_an_unlimited_latent_with_a_blind_encoder() -> None:
    toy = unlimited()
    toy.encode = lambda change: torch.zeros_like(change.flatten(1))
    prior = toy.infer_latents(clips())
    assert not energy_gap(toy, clips(), prior).is_flat
    assert energy_gap(toy, clips(), prior, num_steps=20, lr=1.0).is_flat


def test_energy_is_flat_where_a_free_latent_leaves_no_gap_to_retain() -> None:
    """Blind, such a model is as wrong of either future; with z it is right of both."""
    blind, fitted = torch.full((4,), 0.02), torch.full((4,), 1e-4)
    flat = EnergyGap(on=fitted, off=fitted, prior_on=blind + 1e-4, prior_off=blind)
    assert flat.forgiven == pytest.approx(0.995) and flat.is_flat
    ignored = EnergyGap(on=blind + 1e-4, off=blind, prior_on=blind + 1e-4, prior_off=blind)
    assert ignored.gap < 0 and not ignored.is_flat


def test_a_model_with_a_dead_expander_ignores_its_latent() -> None:
    model, clip = forward_model(), clips()
    prior = prior_latents(model, clip, num_samples=2, generator=torch.Generator().manual_seed(0))
    alive = latent_use(model, clip, prior)
    assert alive.sensitivity > 0.05
    torch.nn.init.zeros_(model.expander.mix.weight)
    dead = latent_use(model, clip, prior)
    assert dead.sensitivity == 0.0 and dead.is_ignored
    torch.testing.assert_close(dead.posterior, dead.prior)


def test_a_latent_that_tells_nothing_of_the_future_is_ignored_too() -> None:
    toy = limited()
    toy.encode = lambda change: torch.zeros(len(change), 1)
    use = latent_use(toy, clips(), torch.randn(4, 4, 1, 1, generator=torch.Generator().manual_seed(0)))
    assert use.sensitivity > 0.05 and use.gain == 0.0 and use.is_ignored


def test_a_latent_that_tells_the_future_is_used() -> None:
    clip, toy = clips(), unlimited()
    shape = (3, *toy.infer_latents(clip).shape)
    use = latent_use(toy, clip, torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert use.gain > 0.9 and not use.is_ignored
    with pytest.raises(ValueError, match="two or more"):
        latent_use(toy, clip, torch.zeros(1, *shape[1:]))
