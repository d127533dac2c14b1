"""Uncertainty statistics: measured on experts, kept by the checkpoint, refused where missing."""

from pathlib import Path

import pytest
import torch

from tests.models.factories import HISTORY, SPEC, make_clip
from worldmodel.models import ForwardModel, NoLatent, load_forward_model, save_forward_model
from worldmodel.training import calibrate_uncertainty, uncertainty_of, with_latent


def make_model() -> ForwardModel:
    torch.manual_seed(0)
    model = ForwardModel(spec=SPEC, history=HISTORY, channels=16, dropout=0.3)
    torch.nn.init.normal_(model.decoder.weight, std=0.05)
    return model


def test_statistics_survive_the_checkpoint_and_the_warm_start(tmp_path: Path) -> None:
    model = make_model()
    calibrate_uncertainty(model, [make_clip(4, relative_speed=-4.0)], num_masks=4)
    assert model.variance_mean.shape == (10,)
    assert float(model.variance_mean.max()) > 0
    save_forward_model(model, tmp_path / "model.pt")
    loaded = load_forward_model(tmp_path / "model.pt")
    torch.testing.assert_close(loaded.variance_mean, model.variance_mean)
    torch.testing.assert_close(with_latent(model, NoLatent()).variance_std, model.variance_std)
    cost = uncertainty_of(loaded, hinge=0.5)
    assert list(cost.mean) == pytest.approx(model.variance_mean.tolist())
    assert cost.hinge == 0.5


def test_no_dropout_no_variance() -> None:
    model = make_model()
    model.dropout = 0.0
    calibrate_uncertainty(model, [make_clip(4)], num_masks=3)
    assert float(model.variance_mean.abs().max()) == 0.0


def test_an_uncalibrated_model_has_no_uncertainty_cost() -> None:
    with pytest.raises(ValueError, match="lacks uncertainty statistics"):
        uncertainty_of(make_model())
    with pytest.raises(ValueError, match="no clips"):
        calibrate_uncertainty(make_model(), [])
