"""Uncertainty statistics: measured on experts, kept by the checkpoint, refused where missing."""

from pathlib import Path

import pytest
import torch

from tests.models.factories import HISTORY, HORIZON, SPEC, make_clip
from worldmodel.costs import DisagreementPenalty, disagreement
from worldmodel.models import (
    EnsembleContext,
    ForwardModel,
    LearntContext,
    NoLatent,
    dropout_members,
    ensemble_members,
    load_forward_model,
    load_model,
    save_forward_model,
    save_model,
)
from worldmodel.training import (
    calibrate_disagreement,
    calibrate_uncertainty,
    expert_disagreement,
    uncertainty_of,
    with_latent,
)
from worldmodel.types import CostTerms, Rollout


def make_model(seed: int = 0) -> ForwardModel:
    torch.manual_seed(seed)
    model = ForwardModel(spec=SPEC, history=HISTORY, channels=16, dropout=0.3)
    torch.nn.init.normal_(model.decoder.weight, std=0.05)
    return model


def test_statistics_survive_the_checkpoint_but_are_not_those_of_a_warm_start(tmp_path: Path) -> None:
    model = make_model()
    calibrate_uncertainty(model, [make_clip(4, relative_speed=-4.0)], num_masks=4)
    assert model.variance_mean.shape == (10,)
    assert float(model.variance_mean.max()) > 0
    save_forward_model(model, tmp_path / "model.pt")
    loaded = load_forward_model(tmp_path / "model.pt")
    torch.testing.assert_close(loaded.variance_mean, model.variance_mean)
    assert with_latent(model, NoLatent()).variance_std.numel() == 0  # another model: to be measured anew
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


def mean_occupancy(rollout: Rollout) -> CostTerms:
    return CostTerms({"occupied": rollout.image.mean((-3, -2, -1))}, {"occupied": 10.0})


def make_penalty() -> DisagreementPenalty:
    members = dropout_members(make_model(), num=4, generator=torch.Generator().manual_seed(0))
    clips = [make_clip(4, relative_speed=speed) for speed in (-4.0, 0.0)]
    return calibrate_disagreement(
        members, clips, mean_occupancy, history=HISTORY, generator=torch.Generator().manual_seed(0)
    )


@torch.no_grad()
def test_recorded_driving_is_usual_and_wild_driving_is_not() -> None:
    penalty = make_penalty()
    assert penalty.mean.shape == (3, HORIZON)
    assert float(penalty.mean[0].min()) > 0 and float(penalty.mean[2].min()) > 0
    assert float(penalty.mean[1].max()) < 1e-9  # the ego is kinematic
    members = dropout_members(make_model(), num=4, generator=torch.Generator().manual_seed(0))
    clip = make_clip(4, relative_speed=-4.0)
    usual = expert_disagreement(members, clip, mean_occupancy, history=HISTORY)
    hidden = members.init(clip.obs(HISTORY))
    action = torch.tensor([-9.0, 0.1]).expand(16, HORIZON, 2)
    rollout = members.unroll(hidden, action, torch.zeros(16, HORIZON, 0))
    wild = disagreement(rollout, 4, mean_occupancy)
    assert float(penalty(wild)[:, -1].mean()) > 2 * float(penalty(usual)[:, -1].mean())


def test_the_penalty_with_its_statistics_survives_a_checkpoint(tmp_path: Path) -> None:
    penalty = make_penalty()
    save_model(penalty, tmp_path / "penalty.pt")
    again = load_model(tmp_path / "penalty.pt")
    torch.testing.assert_close(again.mean, penalty.mean)
    torch.testing.assert_close(again.std, penalty.std)


def test_an_ensemble_is_calibrated_like_dropout() -> None:
    models, clip = [make_model(seed) for seed in (0, 1)], make_clip(4, relative_speed=-4.0)
    penalty = calibrate_disagreement(ensemble_members(models), [clip], mean_occupancy, history=HISTORY)
    assert float(penalty.mean[0].min()) > 0
    source = EnsembleContext([LearntContext(model) for model in models])
    calibrate_uncertainty(models[0], [clip], source=source)
    variance = uncertainty_of(models[0]).mean
    assert len(variance) == HORIZON and max(variance) > 0


def test_no_clips_no_penalty() -> None:
    with pytest.raises(ValueError, match="no clips"):
        calibrate_disagreement(ensemble_members([make_model(), make_model()]), [], mean_occupancy, history=4)
