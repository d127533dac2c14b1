"""What a probe finds of toys whose variances are known."""

from dataclasses import dataclass

import pytest
import torch

from tests.models.factories import make_clip
from worldmodel.data.dataset import FutureViews, comoving_future
from worldmodel.evaluation.probe import doubt
from worldmodel.models.forward_model import TrainingUnroll
from worldmodel.types import Clip


class ToyModel(torch.nn.Module):
    """Predicts `0.5 + bias + 0.1 (z + mask)` for each window, the mask drawn in training mode only."""

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        self.bias = bias
        self.eval()

    def unroll_clip(
        self, clip: Clip, *, latents: torch.Tensor, generator: torch.Generator | None = None
    ) -> TrainingUnroll:
        moved = latents.squeeze(-1)
        if self.training:
            moved = moved + torch.randn(moved.shape, generator=generator).clamp(-2, 2)
        return TrainingUnroll(
            (0.5 + self.bias + 0.1 * moved).logit()[..., None, None, None], torch.zeros(len(moved))
        )


@dataclass(frozen=True)
class ToyProbe:
    model: ToyModel
    views: FutureViews = comoving_future

    def redirect(self, clip: Clip, action: torch.Tensor) -> Clip:
        return clip

    def prior(
        self, clip: Clip, *, num_samples: int, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        return torch.randn(num_samples, 8000, 1, 1, generator=generator).clamp(-2, 2)


def test_doubt_is_as_large_as_it_was_made() -> None:
    """A normal number cut at 2 has a variance of .9205: .0092 over latents and masks, none over twins.

    A third model that is off by .1 parts from the twins by a variance of .01 / 3.
    """
    probe, clip = ToyProbe(ToyModel()), make_clip(1)
    latents = probe.prior(clip, num_samples=3, generator=torch.Generator().manual_seed(9))
    masks = doubt(probe, clip, latents, num_members=4)
    assert float(masks.epistemic.mean()) == pytest.approx(0.0092, rel=0.03)
    assert float(masks.aleatoric.mean()) == pytest.approx(0.0092, rel=0.03)
    members = doubt(probe, clip, latents, num_members=4, ensemble=[probe, probe, ToyProbe(ToyModel(0.1))])
    assert float(members.epistemic.mean()) == pytest.approx(0.01 / 3, rel=0.05)
    assert float(members.aleatoric.mean()) == pytest.approx(0.0092, rel=0.03)
    again, elsewhere = (
        doubt(probe, clip, latents, num_members=2, ensemble=[probe] * 2, seed=seed) for seed in (0, 2)
    )
    assert not again.epistemic.equal(elsewhere.epistemic)
