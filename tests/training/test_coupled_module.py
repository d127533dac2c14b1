"""Training the coupled model: what the loss weighs, the warm start, one real Lightning run, its presets."""

from functools import partial
from importlib.resources import files
from pathlib import Path

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from tests.models.factories import HISTORY, HORIZON, SPEC, make_clip, shortened
from worldmodel.app.compose import build, compose
from worldmodel.data import Stats
from worldmodel.models import CoupledModel, GaussianLatent, NoLatent, load_model, save_model
from worldmodel.models.coupled import CoupledUnroll
from worldmodel.training import CoupledModule, set_motion_normalisation, with_latent
from worldmodel.types import Clip

LATENTS = Path(str(files("configs"))) / "latent"


def make_module(latent: GaussianLatent | None = None, *, channels: int = 4, **kwargs: float) -> CoupledModule:
    torch.manual_seed(0)
    model = CoupledModel(
        spec=SPEC, history=HISTORY, features=(8, 8, 8), width=16, channels=channels, latent=latent
    )
    optimizer = partial(torch.optim.Adam, lr=2e-3)
    return CoupledModule(model, optimizer=optimizer, num_steps=8, **kwargs)  # type: ignore[arg-type]


def perfect(clip: Clip, model: CoupledModel, *, motion: float = 0.0, lane: float = 0.0) -> CoupledUnroll:
    """The recorded future, but for an error of so much in the speed and in the lane channel."""
    frames = model.future_frames(clip).clone()
    frames[:, :, 1] = (frames[:, :, 1] - lane).abs()
    moved = model.future_motion(clip) + motion * torch.tensor([0.0, 0.0, 0.0, 1.0])
    return CoupledUnroll(frames.logit(eps=1e-6), moved, torch.zeros(2))


def test_loss_weighs_motion_and_road(monkeypatch: pytest.MonkeyPatch) -> None:
    """A speed that is off by a second of the usual acceleration counts 1/4, in units of the weight."""
    clip = make_clip()
    module = make_module(motion_weight=8.0, road_weight=0.0)

    def loss(**errors: float) -> float:
        monkeypatch.setattr(module.model, "unroll_clip", lambda clip: perfect(clip, module.model, **errors))
        return module.loss(clip)[0].item()

    second = module.model.action_std[0].item()
    assert loss(motion=second) - loss() == pytest.approx(8.0 / 4, rel=1e-4)
    assert loss(lane=0.5) == pytest.approx(loss(), rel=1e-4)
    module.road_weight = 1.0
    assert loss(lane=0.5) - loss() == pytest.approx(torch.log(torch.tensor(2.0)).item(), rel=1e-3)


def test_normalisation_comes_from_the_statistics() -> None:
    model = make_module().model
    stats = Stats((1.0, 0.1, 0.2, 10.0), (0.5, 0.3, 0.4, 5.0), (0.6, 0.7), (0.8, 0.9), num_steps=3)
    set_motion_normalisation(model, stats)
    assert model.motion_mean.tolist() == pytest.approx([1.0, 0.1, 0.2, 10.0])
    assert model.motion_std.tolist() == pytest.approx([0.5, 0.3, 0.4, 5.0])
    assert model.action_mean.tolist() == pytest.approx([0.6, 0.7])
    assert model.motion_scale.tolist() == pytest.approx([0.008, 0.3, 0.4, 0.08])


def test_warm_start_keeps_the_deterministic_weights_and_is_saved(tmp_path: Path) -> None:
    model = make_module().model
    torch.nn.init.normal_(model.image_decoder.layers[-1].weight, std=0.1)
    warm = with_latent(model, GaussianLatent(4, 4, dim=3))
    assert isinstance(warm, CoupledModel)
    history = model.observe(make_clip().obs(HISTORY))
    torch.testing.assert_close(warm.encode(history), model.encode(history))
    save_model(warm.eval(), tmp_path / "model.pt")
    loaded = load_model(tmp_path / "model.pt", spec=SPEC)
    torch.testing.assert_close(loaded.state_dict(), warm.state_dict())
    back = with_latent(warm, NoLatent())
    torch.testing.assert_close(back.state_dict(), model.state_dict())


def test_fits_under_lightning(tmp_path: Path) -> None:
    """A few steps on one clip lower its error; validation reports vehicles and motion."""
    module = make_module(GaussianLatent(4, 4, dim=3))
    clip = make_clip(2, relative_speed=8.0)
    one = DataLoader([clip] * 8, batch_size=None)  # type: ignore[arg-type]
    trainer = lightning.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        max_steps=8,
        limit_val_batches=1,
    )
    before = trainer.validate(module, one, verbose=False)[0]
    trainer.fit(module, one, one)
    after = trainer.validate(module, one, verbose=False)[0]
    assert after["val/mse"] < before["val/mse"]
    assert set(after) == {"val/mse", "val/motion"}


@pytest.mark.parametrize(
    ("name", "parameters"), [("coupled_small", 1_705_399), ("ppuu", 15_665_191)], ids=str
)
def test_presets_train_with_what_they_need(name: str, parameters: int) -> None:
    """The preset brings its module, its views and its normalisation; the command's latent fits it."""
    config = compose("train", [f"model={name}"])
    model = with_latent(build(config.model), build(config.latent))
    assert model.num_parameters == parameters
    module = build(config.module)(model, optimizer=torch.optim.Adam, num_steps=1)
    assert isinstance(module, CoupledModule)
    clip = make_clip()
    views = build(config.loader.future_views)(clip.state, HISTORY, 0.1)
    torch.testing.assert_close(views, clip.state[:, HISTORY:, :3])
    assert views.shape[1] == HORIZON


@pytest.mark.parametrize("name", sorted(path.stem for path in LATENTS.glob("*.yaml")))
def test_takes_every_latent(name: str) -> None:
    """Each is inferred, drawn from its prior, and moves the prediction unless it is empty."""
    latent = build(compose("train", ["model=coupled_small", f"latent={name}"]).latent)
    model = with_latent(make_module(channels=16).model, latent).train()
    clip = shortened(make_clip(), 2)
    unroll = model.unroll_clip(clip, generator=torch.Generator().manual_seed(0))
    (unroll.logits.square().mean() + unroll.penalty.mean()).backward()
    assert unroll.penalty.isfinite().all()
    assert model.infer_latents(clip).shape == (2, 2, latent.dim)
    assert model.eval().unroll_clip(clip, use_prior=True).logits.isfinite().all()
    if latent.dim:
        torch.nn.init.normal_(model.image_decoder.layers[-1].weight)
        z = torch.randn(2, 2, latent.dim, requires_grad=True)
        model.unroll_clip(clip, latents=z).logits.square().mean().backward()
        assert z.grad is not None
        assert (z.grad != 0).any()
