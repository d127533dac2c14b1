"""The energy view: a model with a latent scores how well a future goes with a past.

    E(x, y, z) = C(y, Dec(Pred(x), z)) + D(z, Enc(x, y)) + lambda R(z)

with past `x`, future `y`, prediction error `C`, distance `D` from what the encoder of the future says, and
regulariser `R`. Without z there remain `F(x, y) = min_z E` and the free energy
`-1/b log mean_z exp(-b E)` over samples of the prior. The minimum is looked for in three ways, which can be
compared: the encoder's guess, gradient descent from it, and search among given candidates.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from worldmodel.models.forward_model import ForwardModel
from worldmodel.nn.energy import (
    EnergyTerms,
    InferredLatent,
    Regulariser,
    free_energy,
    half_squared_norm,
    infer_by_gradient,
    infer_by_search,
)
from worldmodel.scene import Channel, RasterSpec
from worldmodel.types import Clip


@runtime_checkable
class LatentModel(Protocol):
    """What is asked of a model here: `ForwardModel` offers it."""

    spec: RasterSpec
    history: int
    training: bool

    def infer_latents(self, clip: Clip, generator: Generator | None = None) -> Float[Tensor, "B S Z"]:
        """Draws the latents of the model's `S` steps from the posterior."""
        ...

    def unroll_clip(self, clip: Clip, *, latents: Float[Tensor, "B S Z"] | None = None) -> Any:
        """Predicts the future under given latents: `logits` `(B, T, C, H, W)`, vehicles first."""
        ...


@dataclass(frozen=True)
class Inference:
    """What three ways of inferring z have found, and the free energy of the candidates that were searched.

    Attributes:
        gradient: None where no step was taken.
    """

    encoder: InferredLatent
    gradient: InferredLatent | None
    search: InferredLatent
    free_energy: Float[Tensor, " B"]

    @property
    def minimum(self) -> Float[Tensor, " B"]:
        """`F(x, y) = min_z E`, as far as it was found."""
        found = (self.encoder, self.gradient, self.search)
        return torch.stack([one.energy for one in found if one is not None]).amin(0)


class ClipEnergy:
    """`E(x, y, z)` of recorded windows as a function of z; an `EnergyFn`.

    Args:
        model: in eval mode, so that the energy depends on nothing but z.
        clip: pasts and futures.
        error_fn: `(clip, unroll) -> (B,)`: `C`; the vehicles' squared error when left out.
        distance_weight: of `D = 1/2 |z - Enc(x, y)|^2`.
        regulariser: `R`; the half squared norm, a Gaussian prior's energy, when left out.
        weight: `lambda`.
        generator: draws the encoder's guess.

    Attributes:
        guess: the encoder's latents.
    """

    def __init__(
        self,
        model: LatentModel,
        clip: Clip,
        *,
        error_fn: Callable[[Clip, Any], Tensor] | None = None,
        distance_weight: float = 0.0,
        regulariser: Regulariser | None = None,
        weight: float = 0.0,
        generator: Generator | None = None,
    ) -> None:
        if model.training:
            raise ValueError("a model in training mode drops units at random; call model.eval() first")
        self.model, self.clip = model, clip
        self.error_fn = error_fn or vehicle_error(model)
        self.distance_weight = distance_weight
        self.regulariser, self.weight = regulariser or half_squared_norm, weight
        self.guess = model.infer_latents(clip, generator).detach()

    def __call__(self, latents: Float[Tensor, "B S Z"]) -> EnergyTerms:
        """Returns the terms of the energy; differentiable in the latents."""
        return EnergyTerms(
            error=self.error_fn(self.clip, self.model.unroll_clip(self.clip, latents=latents)),
            distance=self.distance_weight * half_squared_norm(latents - self.guess),
            regulariser=self.weight * self.regulariser(latents),
        )


def infer_by_encoder(energy: ClipEnergy) -> InferredLatent:
    """Returns the encoder's guess."""
    with torch.no_grad():
        return InferredLatent(energy.guess, energy(energy.guess).total)


def compare_inference(
    energy: ClipEnergy,
    candidates: Iterable[Float[Tensor, "B S Z"]],
    *,
    num_steps: int = 20,
    lr: float = 0.1,
    inverse_temperature: float = 1000.0,
) -> Inference:
    """Infers z in every way.

    Args:
        candidates: samples of the prior (`prior_latents`).
        num_steps, lr: of the gradient descent; 0 steps leave it out, for latents that cannot take any value.
        inverse_temperature: `b` of the free energy, in units of 1 / energy; 1000 is right for squared errors
            per pixel, which differ in the third decimal.
    """
    found, energies = infer_by_search(energy, candidates)
    return Inference(
        encoder=infer_by_encoder(energy),
        gradient=infer_by_gradient(energy, energy.guess, num_steps=num_steps, lr=lr) if num_steps else None,
        search=found,
        free_energy=free_energy(energies, inverse_temperature=inverse_temperature),
    )


@torch.no_grad()
def prior_latents(
    model: ForwardModel, clip: Clip, *, num_samples: int = 8, generator: Generator | None = None
) -> Float[Tensor, "N B S Z"]:
    """Returns draws from the prior for every step of a forward model, each step knowing those before it."""
    memory = model.encode(clip.obs(model.history))
    horizon = clip.image.shape[1] - model.history
    num_steps = -(-horizon // model.stride)
    motions = model.motions(clip, memory, num_steps)
    samples = []
    for _ in range(num_samples):
        hidden, draws = memory.features, []
        for index in range(num_steps):
            z = model.latent.prior(hidden, generator)
            hidden = model.advance(hidden, motions[:, index], z)
            draws.append(z)
        samples.append(torch.stack(draws, dim=1))
    return torch.stack(samples)


def vehicle_error(model: LatentModel) -> Callable[[Clip, Any], Tensor]:
    """Returns `C`: the squared error of the vehicle rasters, mean over frames and covered pixels."""
    channel, history = model.spec.channels.index(Channel.VEHICLES), model.history

    def error(clip: Clip, unroll: Any) -> Tensor:
        frames = unroll.logits[:, :, 0].sigmoid()  # (B, T, H, W)
        target = clip.image[:, history:, channel].to(frames.dtype) / 255
        covered = clip.covered[:, history:, :, None].to(frames.dtype)
        wrong = ((frames - target).square() * covered).sum((-3, -2, -1))
        return wrong / (covered.sum((-3, -2, -1)) * frames.shape[-1]).clamp_min(1.0)

    return error
