"""How well rasters are predicted: error, overlap and sharpness of the vehicle channel, by horizon.

Scores are kept per window, so that intervals can be bootstrapped over vehicles. Only rows that were being
recorded count.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from worldmodel.types import Clip

Predictor = Callable[[Clip], Float[Tensor, "S B T 1 H W"]]
"""Clip (whose history alone may be read, oracles apart) -> `S` co-moving futures, in [0, 1]."""

OCCUPIED = 0.5
"""Grey value from which a pixel counts as occupied in the overlap."""


@dataclass(frozen=True)
class PredictionScores:
    """Scores of `W` windows at `T` horizon steps.

    Attributes:
        mse: of the mean over samples.
        best_mse: of the sample that is best over the whole horizon (best of S).
        iou: intersection over union of occupied pixels, of the mean over samples; nan where both are empty.
        sharpness: total variation of single samples over that of the recording; 1 is as sharp as reality, nan
            where the recording shows (almost) nobody.
        cluster: vehicle of each window, to resample by.
    """

    mse: Float[np.ndarray, "W T"]
    best_mse: Float[np.ndarray, "W T"]
    iou: Float[np.ndarray, "W T"]
    sharpness: Float[np.ndarray, "W T"]
    cluster: Int[np.ndarray, " W"]


def score_predictions(
    predict: Predictor, clips: Iterable[Clip], *, history: int, vehicle_channel: int
) -> PredictionScores:
    """Returns the scores of a predictor on every window of `clips`."""
    parts: list[tuple[np.ndarray, ...]] = []
    for clip in clips:
        target = clip.image[:, history:, vehicle_channel : vehicle_channel + 1].float() / 255
        covered = clip.covered[:, history:, None, :, None]
        with torch.no_grad():
            samples = predict(clip).float()
        mean = samples.mean(0)
        best = best_sample(samples, target, covered)
        cluster = clip.origin[:, 0] * 1_000_000 + clip.origin[:, 1]
        scores = (
            squared_error(mean, target, covered),
            squared_error(best, target, covered),
            overlap(mean, target, covered),
            sharpness(samples[0], target, covered),
        )
        parts.append((*(score.cpu().numpy() for score in scores), cluster.cpu().numpy()))
    if not parts:
        raise ValueError("no windows to score: the split is empty or shorter than history + horizon")
    return PredictionScores(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def squared_error(
    image: Float[Tensor, "*S T 1 H W"],
    target: Float[Tensor, "*#S T 1 H W"],
    covered: Bool[Tensor, "*#S T 1 H 1"],
) -> Float[Tensor, "*S T"]:
    """Returns the mean squared error over covered pixels."""
    weight = covered.to(image.dtype).expand_as(target)
    return ((image - target).square() * weight).sum((-3, -2, -1)) / weight.sum((-3, -2, -1)).clamp_min(1.0)


def overlap(
    image: Float[Tensor, "B T 1 H W"], target: Float[Tensor, "B T 1 H W"], covered: Bool[Tensor, "B T 1 H 1"]
) -> Float[Tensor, "B T"]:
    """Returns the intersection over union of the occupied pixels; nan where nothing is occupied in either."""
    predicted, real = (image > OCCUPIED) & covered, (target > OCCUPIED) & covered
    both = (predicted & real).sum((-3, -2, -1)).to(image.dtype)
    either = (predicted | real).sum((-3, -2, -1)).to(image.dtype)
    return torch.where(either > 0, both / either, torch.nan)


def sharpness(
    image: Float[Tensor, "B T 1 H W"], target: Float[Tensor, "B T 1 H W"], covered: Bool[Tensor, "B T 1 H 1"]
) -> Float[Tensor, "B T"]:
    """Returns total variation over the target's; nan where that is less than one pixel's."""
    real = total_variation(target, covered)
    return torch.where(real >= 1.0, total_variation(image, covered) / real.clamp_min(1.0), torch.nan)


def total_variation(
    image: Float[Tensor, "B T 1 H W"], covered: Bool[Tensor, "B T 1 H 1"]
) -> Float[Tensor, "B T"]:
    """Returns the sum of absolute differences between neighbouring pixels over the covered rows."""
    weight = covered.to(image.dtype)
    across = ((image[..., 1:] - image[..., :-1]).abs() * weight).sum((-3, -2, -1))
    both = weight[..., 1:, :] * weight[..., :-1, :]
    along = ((image[..., 1:, :] - image[..., :-1, :]).abs() * both).sum((-3, -2, -1))
    return across + along


def best_sample(
    samples: Float[Tensor, "S B T 1 H W"],
    target: Float[Tensor, "B T 1 H W"],
    covered: Bool[Tensor, "B T 1 H 1"],
) -> Float[Tensor, "B T 1 H W"]:
    """Returns, per window, the sample with the smallest error summed over the horizon."""
    errors = squared_error(samples, target.unsqueeze(0), covered.unsqueeze(0)).sum(-1)  # (S, B)
    return samples[errors.argmin(0), torch.arange(samples.shape[1], device=samples.device)]
