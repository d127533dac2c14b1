"""Encoders of other checkpoints in a forward model: from scratch, frozen, fine-tuned, the user's own."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.models.factories import HISTORY, SPEC, make_clip
from worldmodel.models import (
    CheckpointError,
    ForwardModel,
    GaussianLatent,
    fine_tuned_encoder,
    frozen_encoder,
    load_encoder,
    load_model,
    save_model,
)
from worldmodel.nn import Backbone, Configured, FrameEncoder, encode
from worldmodel.ssl import Pretraining, Reconstruct
from worldmodel.training import ForwardModule, with_latent


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    encoder = FrameEncoder(3, 8)
    path = tmp_path / "ssl.pt"
    save_model(Pretraining(encoder, Reconstruct(width=0), (2, 3, SPEC.height, SPEC.width)), path)
    return path


def model_with(encoder: nn.Module) -> ForwardModel:
    return ForwardModel(encoder=encoder, spec=SPEC, history=HISTORY, channels=16)


def step(model: ForwardModel) -> torch.optim.Optimizer:
    module = ForwardModule(model.train(), optimizer=partial(torch.optim.SGD, lr=0.1), num_steps=10)
    optimizer = module.configure_optimizers()["optimizer"]  # type: ignore[index, call-overload]
    nn.init.normal_(model.decoder.weight, std=0.1)
    model.unroll_clip(make_clip()).logits.square().mean().backward()
    optimizer.step()
    return optimizer


def test_a_frozen_encoder_is_what_was_pretrained_and_stays_so(pretrained: Path) -> None:
    original = load_encoder(pretrained)
    model = model_with(frozen_encoder(pretrained))
    step(model)
    frame = torch.rand(2, 3, SPEC.height, SPEC.width)
    torch.testing.assert_close(encode(model.encoder, frame), encode(original, frame), rtol=0, atol=0)


def test_a_fine_tuned_encoder_learns_more_slowly(pretrained: Path) -> None:
    model = model_with(fine_tuned_encoder(pretrained, lr_factor=0.1))
    optimizer = step(model)
    rest, slow = optimizer.param_groups
    assert slow["initial_lr"] == pytest.approx(0.1 * rest["initial_lr"])
    assert {id(one) for one in slow["params"]} == {id(one) for one in model.encoder.parameters()}
    assert len(rest["params"]) + len(slow["params"]) == len(list(model.parameters()))


def test_the_checkpoint_needs_the_encoders_file_no_more(pretrained: Path, tmp_path: Path) -> None:
    model = model_with(frozen_encoder(pretrained)).eval()
    save_model(model, tmp_path / "model.pt")
    pretrained.unlink()
    again = load_model(tmp_path / "model.pt")
    logits = [one.unroll_clip(make_clip()).logits for one in (model, again)]
    torch.testing.assert_close(*logits, rtol=0, atol=0)
    assert not any(one.requires_grad for one in again.encoder.parameters())  # type: ignore[union-attr]


def test_a_latent_is_added_with_the_encoder_kept(pretrained: Path) -> None:
    model = model_with(frozen_encoder(pretrained))
    warm = with_latent(model, GaussianLatent(16, 8, dim=2))
    for one, other in zip(model.encoder.parameters(), warm.encoder.parameters(), strict=True):  # type: ignore[union-attr]
        assert torch.equal(one, other)


def test_a_forward_models_encoder_is_one_too(tmp_path: Path) -> None:
    model = model_with(FrameEncoder(3, 8))
    save_model(model, tmp_path / "model.pt")
    frame = torch.rand(1, 3, SPEC.height, SPEC.width)
    torch.testing.assert_close(
        encode(load_encoder(tmp_path / "model.pt"), frame), encode(model.encoder, frame), rtol=0, atol=0
    )


class Plain(Configured):
    """A stranger's network."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Conv2d(3, 5, 4, stride=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_your_own_network_is_an_encoder() -> None:
    model = model_with(Backbone(Plain(), features=5, stride=(4, 4)))
    step(model)
    assert model.encode(make_clip().obs(HISTORY)).features.shape[-2:] == (
        -(-SPEC.height // 4),
        -(-SPEC.width // 4),
    )


def test_a_network_that_breaks_its_promise_is_named() -> None:
    wrong = Backbone(Plain(), features=6, stride=(4, 4))
    with pytest.raises(ValueError, match=r"makes a map of \(5, 8, 4\).*promise \(6, 8, 4\)"):
        encode(wrong, torch.rand(1, 3, 32, 16))


def test_a_file_without_an_encoder_is_refused(tmp_path: Path) -> None:
    save_model(GaussianLatent(4, 4, dim=2), tmp_path / "latent.pt")
    with pytest.raises(CheckpointError, match=r"latent.pt: holds a GaussianLatent, which has no encoder"):
        load_encoder(tmp_path / "latent.pt")
