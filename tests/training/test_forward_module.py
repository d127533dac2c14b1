"""Training: the warm start, the schedule, one real Lightning run, and a resumed one."""

from functools import partial
from pathlib import Path

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from tests.models.factories import HISTORY, SPEC, make_clip, shortened
from worldmodel.models import ForwardModel, GaussianLatent, Latent, NoLatent
from worldmodel.models.latent import CategoricalLatent
from worldmodel.training import ForwardModule, warmup_cosine, with_latent
from worldmodel.training.forward_module import OF_THE_LATENT
from worldmodel.types import Clip


def make_module(latent: GaussianLatent | None = None, num_steps: int = 8) -> ForwardModule:
    torch.manual_seed(0)
    model = ForwardModel(spec=SPEC, history=HISTORY, channels=8, latent=latent)
    return ForwardModule(model, optimizer=partial(torch.optim.Adam, lr=1e-3), num_steps=num_steps)


def loader(num: int = 4) -> DataLoader:
    clips = [make_clip(2, seed=seed, relative_speed=float(seed)) for seed in range(num)]
    return DataLoader(clips, batch_size=None)  # type: ignore[arg-type]


def trainer(path: Path, **kwargs: object) -> lightning.Trainer:
    return lightning.Trainer(
        default_root_dir=path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **kwargs,  # type: ignore[arg-type]
    )


def test_schedule_warms_up_and_ends_at_the_floor() -> None:
    factor = warmup_cosine(50, warmup=5, floor=0.1)
    assert [factor(step) for step in range(5)] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert factor(49) == pytest.approx(0.1)
    assert factor(500) == pytest.approx(0.1)


def test_warm_start_keeps_the_deterministic_weights() -> None:
    model = make_module().model
    torch.nn.init.normal_(model.decoder.weight, std=0.1)
    model.speed_mean.fill_(3.0)
    warm = with_latent(model, GaussianLatent(8, 16, dim=4))
    assert float(warm.speed_mean) == 3.0
    clip = make_clip()
    memory, warm_memory = model.encode(clip.obs(HISTORY)), warm.encode(clip.obs(HISTORY))
    torch.testing.assert_close(memory.features, warm_memory.features)
    zero = warm.advance(warm_memory.features, torch.zeros(2, 8), torch.zeros(2, 4))
    assert torch.isfinite(zero).all()
    back = with_latent(warm, NoLatent())
    torch.testing.assert_close(back.decoder.weight, model.decoder.weight)


@pytest.mark.parametrize(
    "other", [GaussianLatent(8, 16, dim=4), GaussianLatent(8, 16, dim=6), CategoricalLatent(8, 16)]
)
def test_a_latent_takes_nothing_over_from_the_one_before(other: Latent) -> None:
    """Not even weights of the same shape; the rest of the model is kept."""
    model = make_module(GaussianLatent(8, 16, dim=4)).model
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(7.0)
    warm = with_latent(model, other)
    own = {name: weight for name, weight in warm.named_parameters() if name.startswith(OF_THE_LATENT)}
    assert {name.partition(".")[0] for name in own} == {"latent", "expander", "surprise_encoder"}
    assert not any(bool((weight == 7).any()) for weight in own.values())
    kept = [weight for name, weight in warm.named_parameters() if name not in own]
    assert all(bool((weight == 7).all()) for weight in kept)


@pytest.mark.parametrize("latent", [None, GaussianLatent(8, 16, dim=4)])
def test_lightning_trains_and_validates(tmp_path: Path, latent: GaussianLatent | None) -> None:
    module = make_module(latent)
    before = module.model.decoder.weight.clone()
    run = trainer(tmp_path, max_epochs=2, enable_checkpointing=False)
    run.fit(module, loader(), loader(1))
    assert run.global_step == 8
    assert not torch.equal(module.model.decoder.weight, before)
    assert float(run.callback_metrics["val/mse"]) > 0


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    """Stopped after one epoch and resumed, a deterministic model ends with the same weights."""
    whole = make_module()
    whole.model.dropout = 0.0
    trainer(tmp_path, max_epochs=2, enable_checkpointing=False).fit(whole, loader(), loader(1))
    first = make_module()
    first.model.dropout = 0.0
    run = trainer(tmp_path, max_epochs=1, enable_checkpointing=False)
    run.fit(first, loader(), loader(1))
    run.save_checkpoint(tmp_path / "half.ckpt")
    second = make_module()
    second.model.dropout = 0.0
    trainer(tmp_path, max_epochs=2, enable_checkpointing=False).fit(
        second, loader(), loader(1), ckpt_path=str(tmp_path / "half.ckpt"), weights_only=True
    )
    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_uncovered_road_does_not_enter_the_loss() -> None:
    module, clip = make_module(), make_clip()
    target, covered = module.target(clip)
    covered = covered.clone()
    covered[:, :, :5] = False
    logits = torch.zeros_like(target)
    changed = target.clone()
    changed[..., :5, :] = 1.0 - changed[..., :5, :]
    torch.testing.assert_close(
        module.loss_fn(logits, target, covered), module.loss_fn(logits, changed, covered)
    )


@pytest.mark.parametrize(("horizon", "lengths"), [(1, {1}), (2, {2}), (3, {2}), (4, {2}), (7, {2, 3, 4})])
def test_something_is_decoded_however_short_the_horizon(horizon: int, lengths: set[int]) -> None:
    """Frames are drawn among those of a core step (of five) that the clip has: no mean over nothing."""
    module, found = make_module(), set[int]()
    module.num_decoded, loss_fn = 2, module.loss_fn

    def noting(logits: torch.Tensor, *args: torch.Tensor, **kwargs: object) -> torch.Tensor:
        found.add(logits.shape[1])
        return loss_fn(logits, *args, **kwargs)

    module.loss_fn, module.log_dict = noting, lambda *args, **kwargs: None  # type: ignore[method-assign]
    for seed in range(8):
        torch.manual_seed(seed)
        assert torch.isfinite(module.training_step(shortened(make_clip(), horizon), 0))
    assert found <= lengths


def test_clip_moves_as_one(tmp_path: Path) -> None:
    moved = make_clip().to("meta")
    assert isinstance(moved, Clip)
    assert moved.image.device.type == "meta"


@pytest.mark.parametrize(("elapsed", "weight"), [(0.0, 1e-4), (0.25, 1e-2), (0.5, 1.0), (1.0, 1.0)])
def test_the_penalty_grows_to_its_weight(elapsed: float, weight: float) -> None:
    """Over the first half of the time: a ten-thousandth, a hundredth, all of it."""
    torch.manual_seed(0)
    latent = GaussianLatent(8, 16, dim=4, beta=1.0, z_dropout=0.0)
    model = ForwardModel(spec=SPEC, history=HISTORY, channels=8, latent=latent)
    module = ForwardModule(
        model, optimizer=torch.optim.Adam, num_steps=100, penalty_ramp=0.5, elapsed=lambda: elapsed
    )
    logged: dict[str, torch.Tensor] = {}
    module.log_dict = lambda values, **_: logged.update(values)  # type: ignore[assignment]
    loss = module.training_step(make_clip(4), 0)
    assert float(logged["train/penalty"].detach()) > 0.01
    torch.testing.assert_close(loss, logged["train/error"] + weight * logged["train/penalty"])
