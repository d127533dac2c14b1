"""The two ways in which a latent goes wrong, measured: z explains everything, or nothing.

*Flat*: a z that carries too much explains any future, those that never happened too, so the energy no longer
tells the data from the rest. *Ignored*: the prediction does not depend on z, or z does not depend on the
future.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from worldmodel.models.energy import ClipEnergy, LatentModel, infer_by_gradient, vehicle_error
from worldmodel.types import Clip, Indexed


@dataclass(frozen=True)
class EnergyGap:
    """Energies of true futures (on the data) and of other windows' futures (off it).

    Attributes:
        on, off: `F(x, y) = min_z E`, z inferred for each future.
        prior_on, prior_off: energies under one z from the prior, which knows neither future: the gap that the
            model has without inference.
    """

    on: Float[Tensor, " B"]
    off: Float[Tensor, " B"]
    prior_on: Float[Tensor, " B"]
    prior_off: Float[Tensor, " B"]

    @property
    def gap(self) -> float:
        """How much worse other futures fit, z inferred."""
        return float((self.off - self.on).mean())

    @property
    def prior_gap(self) -> float:
        """How much worse other futures fit, z from the prior."""
        return float((self.prior_off - self.prior_on).mean())

    @property
    def accuracy(self) -> float:
        """Share of windows whose true future has the lower energy; chance is 0.5."""
        return float((self.on < self.off).float().mean())

    @property
    def retained(self) -> float:
        """Share of the gap that inference leaves: about 1 for a limited z, 0 for one that fits anything.

        Means nothing where `prior_gap` is not positive.
        """
        return self.gap / max(self.prior_gap, 1e-12)

    @property
    def forgiven(self) -> float:
        """Share of the energy of other futures that inference removes: 1 for a z that fits anything."""
        return 1 - float(self.off.mean()) / max(float(self.prior_off.mean()), 1e-12)

    @property
    def is_flat(self) -> bool:
        """Whether inference of z closes nine tenths of the gap, or of the energy of other futures.

        A z that carries everything leaves no gap without inference, of which a share could remain.
        """
        return self.forgiven > 0.9 or (self.prior_gap > 0 and self.retained < 0.1)


@dataclass(frozen=True)
class LatentUse(Indexed):
    """Errors of each window with z from the posterior, from the prior and zero, and what z changes.

    Attributes:
        posterior, prior, zero: prediction errors; the prior's is the mean over its draws.
        spread: mean squared difference between predictions under two draws from the prior.
    """

    posterior: Float[Tensor, " B"]
    prior: Float[Tensor, " B"]
    zero: Float[Tensor, " B"]
    spread: Float[Tensor, " B"]

    @property
    def gain(self) -> float:
        """Share of the error that a z which has seen the future removes; 0: z carries no information."""
        blind = min(float(self.prior.mean()), float(self.zero.mean()))
        return 1 - float(self.posterior.mean()) / max(blind, 1e-12)

    @property
    def sensitivity(self) -> float:
        """What z changes, relative to the prediction's error (root mean squares); 0: z changes nothing."""
        return float((self.spread.mean() / self.prior.mean().clamp_min(1e-12)).sqrt())

    @property
    def is_ignored(self) -> bool:
        """Whether z changes the prediction by less than 5 % of its error, or explains less than 1 % of it."""
        return self.sensitivity < 0.05 or self.gain < 0.01


def energy_gap(
    model: LatentModel,
    clip: Clip,
    prior: Float[Tensor, "B S Z"],
    *,
    error_fn: Callable[[Clip, Any], Tensor] | None = None,
    num_steps: int = 0,
    lr: float = 0.1,
    generator: Generator | None = None,
) -> EnergyGap:
    """Compares the energy of each window's true future with that of the next window's in the batch.

    The ego's recorded motion stays with the past; only what the others do is exchanged.

    Args:
        model: in eval mode.
        clip: at least two windows, better from different scenes.
        prior: latents drawn from the prior (`prior_latents(model, clip, num_samples=1)[0]`).
        error_fn: as in `ClipEnergy`.
        num_steps: of gradient descent from the encoder's guess, for latents that take any value
            (`latent.takes_any_value`). 0 takes the guess as it is: possible for every latent, but a bad
            encoder then hides that z fits anything.
        lr: of the descent.
        generator: draws the encoder's guesses.
    """
    futures = (clip, exchange_futures(clip, model.history))
    inferred, blind = [], []
    for one in futures:
        energy = ClipEnergy(model, one, error_fn=error_fn, generator=generator)
        inferred.append(infer_by_gradient(energy, energy.guess, num_steps=num_steps, lr=lr).energy)
        with torch.no_grad():
            blind.append(energy(prior).total)
    return EnergyGap(on=inferred[0], off=inferred[1], prior_on=blind[0], prior_off=blind[1])


def exchange_futures(clip: Clip, history: int) -> Clip:
    """Returns the clip with each window's future rasters replaced by the next window's.

    Raises:
        ValueError: for a single window.
    """
    if len(clip.size) < 2:
        raise ValueError("one window has no other future to compare with; pass a batch of two or more")

    def exchanged(frames: Tensor) -> Tensor:
        return torch.cat([frames[:, :history], frames[:, history:].roll(-1, 0)], dim=1)

    return replace(clip, image=exchanged(clip.image), covered=exchanged(clip.covered))


@torch.no_grad()
def latent_use(
    model: LatentModel,
    clip: Clip,
    prior: Float[Tensor, "N B S Z"],
    *,
    error_fn: Callable[[Clip, Any], Tensor] | None = None,
    generator: Generator | None = None,
) -> LatentUse:
    """Measures what z does to the prediction.

    Args:
        model: in eval mode.
        prior: at least two draws from the prior (`prior_latents`).
        error_fn: as in `ClipEnergy`.
        generator: draws from the posterior.

    Raises:
        ValueError: for fewer than two draws.
    """
    if len(prior) < 2:
        raise ValueError(f"{len(prior)} draw from the prior has no spread; pass two or more")
    error_fn = error_fn or vehicle_error(model)
    energy = ClipEnergy(model, clip, error_fn=error_fn, generator=generator)
    unrolls = [model.unroll_clip(clip, latents=one) for one in prior]
    frames = torch.stack([one.logits.sigmoid() for one in unrolls])
    return LatentUse(
        posterior=energy(energy.guess).error,
        prior=torch.stack([error_fn(clip, one) for one in unrolls]).mean(0),
        zero=energy(torch.zeros_like(energy.guess)).error,
        spread=2 * frames.var(0).flatten(1).mean(-1),
    )
