"""Ways of training that cost less must not change what is learnt more than they say."""

from collections.abc import Callable
from pathlib import Path

import lightning
import pytest
import torch
from torch import Tensor, nn

from tests.models.factories import HISTORY, SPEC, make_clip
from tests.training.toys import Counter
from worldmodel.data import Span, Split, make_recording
from worldmodel.data.datamodule import TrafficDataModule, crop
from worldmodel.models import ForwardModel, GaussianLatent
from worldmodel.models.loss import masked_bce
from worldmodel.scene import RasterSpec
from worldmodel.training import ForwardModule, GrowingHorizon, GrowingShare, compile_parts
from worldmodel.types import Clip


def make_model(**kwargs: object) -> ForwardModel:
    torch.manual_seed(0)
    model = ForwardModel(spec=SPEC, history=HISTORY, channels=8, dropout=0.0, **kwargs)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.decoder.weight, std=0.05)
    return model


def far_away(clip: Clip) -> Clip:
    """Returns the clip at the far end of a recording: positions of hundreds of metres."""
    moved = torch.tensor([613.0, 7.0, 0.0, 0.0])
    return Clip(**(vars(clip) | {"state": clip.state + moved, "view": clip.view + moved[:3]}))


def loss_and_gradient(model: ForwardModel, clip: Clip, **unroll: object) -> tuple[Tensor, Tensor]:
    module = ForwardModule(model, optimizer=torch.optim.SGD, num_steps=1, unroll=unroll, loss_fn=masked_bce)
    module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    model.zero_grad()
    torch.manual_seed(0)
    loss = module.training_step(clip, 0)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), torch.cat(
        [one.grad.flatten() for one in model.parameters() if one.grad is not None]
    )


def test_recomputing_activations_changes_nothing_and_truncation_the_gradient_only() -> None:
    model, clip = make_model(latent=GaussianLatent(8, 16, dim=4)), make_clip()
    loss, gradient = loss_and_gradient(model, clip)
    again, recomputed = loss_and_gradient(model, clip, checkpoint_activations=True)
    torch.testing.assert_close(again, loss)
    torch.testing.assert_close(recomputed, gradient)
    same, truncated = loss_and_gradient(model, clip, detach_every=1)
    torch.testing.assert_close(same, loss)
    assert (truncated - gradient).abs().max() > 1e-6


@pytest.mark.parametrize("place", [lambda clip: clip, far_away], ids=["near", "far"])
def test_half_precision_gives_about_the_same_loss_and_gradient_anywhere(place: object) -> None:
    model, clip = make_model(), place(make_clip(4, relative_speed=3.0))  # type: ignore[operator]
    loss, gradient = loss_and_gradient(model, clip)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half_loss, half_gradient = loss_and_gradient(model, clip)
    torch.testing.assert_close(half_loss, loss, rtol=0.01, atol=0.0)
    assert torch.cosine_similarity(half_gradient, gradient, dim=0) > 0.98
    with torch.no_grad():
        memory = model.encode(clip.obs(HISTORY))
        code = model.motions(clip, memory, 2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half_code = model.motions(clip, model.encode(clip.obs(HISTORY)), 2)
    torch.testing.assert_close(half_code.float(), code, rtol=0.02, atol=0.01)


def test_a_cropped_clip_is_that_of_the_shorter_horizon() -> None:
    model, clip = make_model().eval(), make_clip()
    short = crop(clip, HISTORY + 5)
    assert (short.image.shape[1], short.state.shape[1], short.action.shape[1]) == (9, 9, 8)
    expected = model.unroll_clip(clip, use_prior=True).logits[:, :5]
    torch.testing.assert_close(model.unroll_clip(short, use_prior=True).logits, expected)


class Horizons(Counter):
    """Notes how long its clips are."""

    def __init__(self) -> None:
        super().__init__()
        self.train_frames: list[int] = []
        self.val_frames: list[int] = []

    def training_step(self, batch: Clip, batch_idx: int) -> Tensor:
        self.train_frames.append(batch.image.shape[1])
        return -self.model.weight.sum()

    def validation_step(self, batch: Clip, batch_idx: int) -> None:
        self.val_frames.append(batch.image.shape[1])


@pytest.mark.parametrize(
    ("curriculum", "elapsed", "frames"),
    [
        (GrowingHorizon(start=5, end=15, num_steps=4, multiple=5), 0.0, [9, 9, 14, 14, 16, 16]),
        (GrowingShare(start=4, end=12, share=0.5, multiple=4), 0.0, [8, 8, 12, 16, 16, 16]),
        (GrowingShare(start=4, end=12, share=0.5, multiple=4), 0.25, [12, 12, 12, 16, 16, 16]),
    ],
)
def test_training_clips_grow_and_validation_clips_are_whole(
    curriculum: Callable[[int, float], int], elapsed: float, frames: list[int], tmp_path: Path
) -> None:
    """With the step, with the share of all steps, and with that of the time where it is farther on."""
    recording = make_recording(num_vehicles=3, num_frames=60, name="road")
    split = Split(train=(Span("road", 0, 40),), val=(Span("road", 40, 60),))
    module = TrafficDataModule(
        [recording], split, history=4, horizon=12, batch_size=2, val_batches=2, ahead=1,
        spec=RasterSpec(height=16, width=8, resolution=2.0),
        curriculum=curriculum,
    )  # fmt: skip
    module.steps, module.elapsed = range(6), lambda: elapsed
    learner = Horizons()
    lightning.Trainer(
        accelerator="cpu", default_root_dir=tmp_path, max_steps=6, max_epochs=-1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, check_val_every_n_epoch=None, val_check_interval=6,
    ).fit(learner, module)  # fmt: skip
    assert learner.train_frames == frames  # never beyond what is drawn
    assert learner.val_frames == [16, 16]


def test_the_parts_with_a_forward_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(latent=GaussianLatent(8, 16, dim=4))
    names = {id(part): name for name, part in model.named_modules()}
    compiled: list[str] = []
    monkeypatch.setattr(nn.Module, "compile", lambda part: compiled.append(names[id(part)]))
    compile_parts(model)
    assert {"encoder", "mixer", "core.0", "decoder", "latent.body"} <= set(compiled)
    assert not {"", "core", "latent", "mixer.0"} & set(compiled)
