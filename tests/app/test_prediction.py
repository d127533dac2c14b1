"""Scores of predictors: what copying, standing still and sampling must give; files and summaries."""

from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodel.app.prediction import Sampled, predictors, read_scores, score, summarise, table, write_scores
from worldmodel.data import Span, make_recording
from worldmodel.data.dataset import WindowDataset, windows
from worldmodel.models import ForwardModel, GaussianLatent
from worldmodel.types import Clip


def make_clips() -> list[Clip]:
    recording = make_recording(num_vehicles=4, num_frames=60)
    dataset = WindowDataset([recording], windows([recording], [Span(recording.name, 0, 60)], stride=10))
    return [dataset.collate([dataset[i] for i in range(4)])]


def make_models() -> tuple[ForwardModel, ForwardModel]:
    first = ForwardModel(channels=8).eval()
    return first, ForwardModel(channels=8, latent=GaussianLatent(8, 16, dim=4)).eval()


def test_an_untrained_model_predicts_what_copying_does(tmp_path: Path) -> None:
    models, clips = make_models(), make_clips()
    scores = score(predictors(*models, num_samples=2), clips, models[1])
    for step in (0, 14, 29):
        copied = scores["copy"]["mse"][step].estimate
        assert scores["deterministic"]["mse"][step].estimate == pytest.approx(copied, rel=0.05, abs=1e-4)
        assert scores["latent"]["mse"][step].estimate == pytest.approx(copied, rel=0.05, abs=1e-4)
        assert scores["empty"]["iou"][step].estimate == 0.0
    assert summarise(scores, 0.1)["copy"]["mse_over_copy"] == {"0.5": 1, "1.0": 1, "2.0": 1, "3.0": 1}
    assert [row[0] for row in table(scores, 0.1).rows] == [
        "deterministic",
        "latent",
        "copy",
        "static",
        "empty",
    ]

    path = tmp_path / "prediction.csv"
    path.write_text(write_scores(scores, 0.1))
    again = read_scores(path)
    assert len(path.read_text().splitlines()) == 1 + 5 * 4 * 30
    assert again["static"]["mse"][29].high == pytest.approx(scores["static"]["mse"][29].high, rel=1e-5)


def test_samples_are_the_same_at_every_call_and_differ_from_each_other() -> None:
    model, clip = make_models()[1], make_clips()[0]
    torch.nn.init.normal_(model.decoder.weight, std=0.1)
    torch.nn.init.normal_(model.expander.mix.weight, std=1.0)
    first, again = Sampled(model, 3)(clip), Sampled(model, 3)(clip)
    assert first.shape == (3, 4, 30, 1, 117, 24)
    np.testing.assert_array_equal(first, again)
    assert (first[0] - first[1]).abs().max() > 0.01
