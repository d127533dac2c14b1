"""The contract of a latent, for every one that has a configuration."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Generator, Tensor

from worldmodel.app.compose import build as hydra_build
from worldmodel.app.compose import compose
from worldmodel.models import ForwardModel, Latent, NoLatent
from worldmodel.models.checkpoint import build, plain
from worldmodel.scene import RasterSpec

CHANNELS, FEATURES, ROWS = 8, 16, 6
CONFIGS = sorted(Path(str(files("configs"))).glob("latent/*.yaml"))
WITH_Z = [path for path in CONFIGS if path.stem != "none"]


def make(path: Path) -> Any:
    """Builds the latent of a configuration, for a small model."""
    torch.manual_seed(0)
    config = OmegaConf.create({"model": {"channels": CHANNELS}, "latent": OmegaConf.load(path)})
    return build(OmegaConf.to_container(config, resolve=True)["latent"])  # type: ignore[call-overload, index]


def maps(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(seed)
    hidden = torch.randn(ROWS, CHANNELS, 8, 4, generator=generator)
    return hidden, torch.randn(ROWS, FEATURES, 8, 4, generator=generator)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def name_of(path: Path) -> str:
    return path.stem


every = pytest.mark.parametrize("path", CONFIGS, ids=name_of)
every_with_z = pytest.mark.parametrize("path", WITH_Z, ids=name_of)


@every
def test_offers_what_the_forward_model_asks_for(path: Path) -> None:
    latent, (hidden, target) = make(path), maps()
    assert isinstance(latent, Latent)
    assert latent.prior(hidden).shape == (ROWS, latent.dim)
    sample = latent.posterior(hidden, target)
    assert sample.z.shape == (ROWS, latent.dim) and sample.penalty.shape == (ROWS,)
    assert (latent.dim == 0) == isinstance(latent, NoLatent)


@every
def test_the_generator_alone_decides_the_draws(path: Path) -> None:
    latent, (hidden, target) = make(path).eval(), maps()
    for draw in (
        lambda seed: latent.prior(hidden, seeded(seed)),
        lambda seed: latent.posterior(hidden, target, seeded(seed)).z,
    ):
        torch.manual_seed(1)
        first = draw(3)
        torch.manual_seed(2)
        assert torch.equal(first, draw(3))


@every
def test_the_penalty_is_finite_and_never_negative(path: Path) -> None:
    latent = make(path)
    for seed, scale in enumerate((0.0, 1.0, 100.0)):
        hidden, target = maps(seed)
        penalty = latent.posterior(scale * hidden, scale * target, seeded(0)).penalty
        assert bool(penalty.isfinite().all()) and bool((penalty >= 0).all())


@every_with_z
def test_gradients_of_prediction_and_penalty_reach_the_encoder(path: Path) -> None:
    latent, (hidden, target) = make(path), maps()
    for pick in ("z", "penalty"):
        target.requires_grad_()
        # A linear decoder that differs from row to row and entry to entry.
        sample = latent.posterior(hidden, target, seeded(1))
        value = getattr(sample, pick)
        weights = torch.randn(value.shape, generator=seeded(0))
        (gradient,) = torch.autograd.grad((value * weights).sum(), target)
        assert bool(gradient.isfinite().all()) and float(gradient.abs().max()) > 0


@every_with_z
@torch.no_grad()
def test_the_posterior_reads_the_future_and_the_prior_does_not(path: Path) -> None:
    latent, (hidden, target) = make(path), maps()
    for _ in range(3):
        latent.posterior(hidden, target, seeded(0))  # what has been seen is what a prior may remember
    latent.eval()
    changed = [latent.posterior(hidden, 30 * one, seeded(0)).z for one in (target, target.flip(0))]
    assert not torch.allclose(*changed)
    assert latent.prior(hidden, seeded(0)).shape == changed[0].shape
    assert float(latent.prior(hidden, seeded(0)).abs().max()) > 0


@every
def test_is_built_again_from_its_config_and_state(path: Path) -> None:
    latent, (hidden, target) = make(path), maps()
    latent.posterior(hidden, target, seeded(0))  # fills the buffers of learnt priors
    twin = build(plain(latent.config))
    twin.load_state_dict(latent.state_dict())
    assert type(twin) is type(latent) and twin.config == latent.config
    for one, other in (
        (latent.prior(hidden, seeded(3)), twin.prior(hidden, seeded(3))),
        (latent.posterior(hidden, target, seeded(4)).z, twin.posterior(hidden, target, seeded(4)).z),
    ):
        assert torch.equal(one, other)


@every
def test_draws_in_eval_mode_leave_the_state_alone(path: Path) -> None:
    latent, (hidden, target) = make(path).eval(), maps()
    before = {name: part.clone() for name, part in latent.state_dict().items()}
    latent.posterior(hidden, target)
    latent.prior(hidden)
    assert all(torch.equal(part, before[name]) for name, part in latent.state_dict().items())


@every
def test_computes_in_bfloat16_under_autocast(path: Path) -> None:
    latent, (hidden, target) = make(path), maps()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sample = latent.posterior(hidden.bfloat16(), target.bfloat16(), seeded(0))
        drawn = latent.prior(hidden.bfloat16(), seeded(0))
    assert bool(sample.z.isfinite().all()) and bool(sample.penalty.isfinite().all())
    assert bool(drawn.isfinite().all())


@every
def test_is_chosen_by_name(path: Path) -> None:
    config = compose("train", [f"latent={path.stem}"])
    latent = hydra_build(config.latent)
    assert type(latent) is type(make(path))
    hidden = torch.randn(2, config.model.channels, 8, 4)
    assert latent.posterior(hidden, torch.randn(2, FEATURES, 8, 4)).z.shape == (2, latent.dim)


@every
def test_fits_into_the_forward_model(path: Path) -> None:
    spec = RasterSpec(height=32, width=16)
    model = ForwardModel(spec=spec, history=2, channels=CHANNELS, depth=1, latent=make(path))
    twin = build(plain(model.config))
    twin.load_state_dict(model.state_dict())
    assert twin.config == model.config
