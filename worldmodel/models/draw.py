"""Where the latents of an unroll come from: given, the prior, or what surprises in the recorded future."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from worldmodel.models.latent import Latent, LatentSample
from worldmodel.models.memory import Drift, Memory
from worldmodel.scene import Channel
from worldmodel.types import Clip

if TYPE_CHECKING:
    from worldmodel.models.forward_model import ForwardModel, Masks

DrawFn = Callable[[int, Float[Tensor, "B C H W"]], LatentSample]
"""Number of a core step and the hidden map before it -> the latent of the step."""


def given(latents: Float[Tensor, "B S Z"]) -> DrawFn:
    """Returns these, one for each step."""
    return lambda index, hidden: LatentSample(latents[:, index], hidden.new_zeros(len(hidden)))


def from_prior(latent: Latent, generator: Generator | None = None) -> DrawFn:
    """Returns draws of the prior, which know the hidden map at most."""
    return lambda _, hidden: LatentSample(latent.prior(hidden, generator), hidden.new_zeros(len(hidden)))


def from_posterior(
    model: "ForwardModel",
    clip: Clip,
    memory: Memory,
    motions: Float[Tensor, "B S C"],
    *,
    masks: "Masks | None" = None,
    generator: Generator | None = None,
) -> DrawFn:
    """Returns draws that know what surprises in each recorded step, given those drawn before.

    They have to be asked for in order, since what is expected of a step depends on the steps before.

    Args:
        model: whose latent it is.
        clip: with the future that they know.
        memory: what `model` keeps of the clip's history.
        motions: of the ego at the start of each step (`ForwardModel.motions`).
        masks: of the unroll that they are for.
    """
    last, first = clip.image.shape[1] - 1, model.history - 1
    ends = [min(first + model.stride * (index + 1), last) for index in range(motions.shape[1])]
    channel = model.spec.channels.index(Channel.VEHICLES)
    futures = clip.image[:, ends, channel].to(memory.speed.dtype) / 255
    nil = memory.features.new_zeros(len(memory.features), 2, *model.cells)
    drift = Drift(nil, nil)

    def draw(index: int, hidden: Float[Tensor, "B C H W"]) -> LatentSample:
        nonlocal drift
        with torch.no_grad():
            if index:
                drift = model.drift(hidden, drift, masks)
            no_latent = hidden.new_zeros(len(hidden), model.latent.dim)
            without = model.advance(hidden, motions[:, index], no_latent, masks)
            shown = ends[index] - first - model.stride * index  # frames of the step that the clip has
            expected = model.drift(without, drift, masks, num_frames=shown)
        surprise = model.surprise(futures[:, index, None], memory.seen, expected)
        return model.latent.posterior(hidden, surprise, generator)

    return draw
