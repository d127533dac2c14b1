"""A latent for each patch of the road, and that the forward model learns to use it."""

import pytest
import torch
from torch import Tensor

from tests.models.factories import HISTORY, HORIZON, SPEC, make_clip
from worldmodel.models import ForwardModel, GaussianLatent, masked_bce
from worldmodel.models.checkpoint import build, plain
from worldmodel.models.diagnosis import latent_use
from worldmodel.models.energy import prior_latents
from worldmodel.models.latent import LocalLatent
from worldmodel.nn import MapExpander
from worldmodel.types import Clip

CHANNELS, FEATURES, DIM = 4, 3, 2


def make_latent(grid: tuple[int, int] = (4, 2), beta: float = 0.1) -> LocalLatent:
    torch.manual_seed(0)
    inner = GaussianLatent(CHANNELS, FEATURES, dim=DIM, beta=beta, z_dropout=0.0)
    return LocalLatent(inner, grid=grid)


def maps(rows: int = 8, columns: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(3, CHANNELS, rows, columns, generator=generator)
    return hidden, torch.randn(3, FEATURES, rows, columns, generator=generator)


def means(latent: LocalLatent, hidden: Tensor, target: Tensor) -> Tensor:
    """The posterior's mean as a map, (B, rows, columns, DIM)."""
    mean, _ = latent.latent.infer(latent._patches(hidden), latent._patches(target))  # type: ignore[attr-defined]
    return mean.unflatten(0, (-1, *latent.grid))


def test_a_patch_knows_only_itself() -> None:
    latent, (hidden, target) = make_latent(), maps()
    before = means(latent, hidden, target)
    target[1, :, 2:4, 3:6] += 1.0  # the second row of patches, the second column
    changed = (means(latent, hidden, target) - before).abs().amax(-1) > 1e-6
    assert changed.nonzero().tolist() == [[1, 1, 1]]


def test_the_penalty_is_the_sum_over_patches() -> None:
    latent, (hidden, target) = make_latent(), maps()
    whole = latent.posterior(hidden, target, torch.Generator().manual_seed(0))
    assert whole.z.shape == (3, 4 * 2 * DIM)
    each = latent.latent.posterior(
        latent._patches(hidden), latent._patches(target), torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(whole.penalty, each.penalty.reshape(3, 8).sum(1))
    torch.testing.assert_close(whole.z, each.z.reshape(3, 16))


def test_maps_that_the_grid_does_not_divide_are_padded() -> None:
    latent, (hidden, target) = make_latent(grid=(3, 4)), maps()
    assert latent._patches(hidden).shape == (3 * 12, CHANNELS, 3, 2)
    assert latent.posterior(hidden, target).z.shape == (3, 24)
    torch.testing.assert_close(latent._patches(hidden)[0, :, :, 0], hidden[0, :, :3, 0])


def test_a_latent_is_laid_down_where_its_patch_is() -> None:
    """Eight rows and six columns in patches of 2 x 3: a patch stays there, blurred by half its size."""
    expander = MapExpander(DIM, CHANNELS, (8, 6), (4, 2))
    z = torch.zeros(1, 4, 2, DIM)
    z[0, 2, 1] = 1.0
    laid = expander(z.flatten(1))[0].abs().sum(0)
    top = laid.flatten().argmax()
    assert divmod(int(top), 6) in [(row, column) for row in (4, 5) for column in (3, 4, 5)]
    assert laid[:3].abs().max() == 0 and laid[7:].abs().max() == 0


def test_it_is_rebuilt_from_its_configuration() -> None:
    latent = make_latent()
    twin = build(plain(latent.config))
    twin.load_state_dict(latent.state_dict())
    hidden, target = maps()
    seeds = [torch.Generator().manual_seed(5) for _ in range(2)]
    torch.testing.assert_close(
        latent.posterior(hidden, target, seeds[0]).z, twin.posterior(hidden, target, seeds[1]).z
    )


def coin_flips(batch: int, seed: int) -> Clip:
    """Clips whose one car goes on faster or slower than the ego by 3 m/s: the past does not say which."""
    generator = torch.Generator().manual_seed(seed)
    faster, slower = (make_clip(batch, seed=seed, relative_speed=speed) for speed in (3.0, -3.0))
    is_faster = torch.rand(batch, generator=generator) < 0.5
    image = torch.where(is_faster[:, None, None, None, None], faster.image, slower.image)
    image[:, :HISTORY] = image[:, HISTORY - 1 : HISTORY]  # it stood still, seen from the ego, until now
    return Clip(**{**vars(faster), "image": image})


@pytest.mark.slow
@pytest.mark.parametrize("beta", [1e-4, 10.0])
def test_the_forward_model_says_with_it_what_the_past_does_not(beta: float) -> None:
    """A coin decides how a car goes on. A z that may carry it does, one that must not does not."""
    torch.manual_seed(0)
    inner = GaussianLatent(8, 16, dim=2, beta=beta, z_dropout=0.0)
    model = ForwardModel(
        spec=SPEC, history=HISTORY, channels=8, dropout=0.0, latent=LocalLatent(inner, grid=(4, 2))
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    channel = slice(1, 2)
    for step in range(120):
        clip = coin_flips(8, seed=step)
        unroll = model.unroll_clip(clip)
        target = clip.image[:, HISTORY:, channel].float() / 255
        loss = masked_bce(unroll.logits, target, clip.covered[:, HISTORY:])
        (loss + min(1.0, step / 60) * unroll.penalty.mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    clip = coin_flips(32, seed=1000)
    prior = prior_latents(model.eval(), clip, num_samples=4)
    use = latent_use(model, clip, prior)
    assert clip.image.shape[1] == HISTORY + HORIZON
    assert (use.gain > 0.4 and not use.is_ignored) if beta < 1 else use.gain < 0.1
