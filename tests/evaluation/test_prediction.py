"""Prediction scores: hand-computed errors, overlaps and sharpness, masked rows, best of several samples."""

import numpy as np
import pytest
import torch

from tests.models.factories import HISTORY, HORIZON, make_clip
from worldmodel.evaluation.prediction import (
    best_sample,
    overlap,
    score_predictions,
    sharpness,
    squared_error,
    total_variation,
)

COVERED = torch.ones(1, 1, 1, 2, 1, dtype=torch.bool)


def image(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows)[None, None, None]


def test_squared_error_counts_covered_rows_only() -> None:
    predicted, target = image([[0.5, 0.0], [1.0, 1.0]]), image([[1.0, 0.0], [0.0, 0.0]])
    assert squared_error(predicted, target, COVERED).item() == pytest.approx((0.25 + 0 + 1 + 1) / 4)
    covered = COVERED.clone()
    covered[..., 1, :] = False
    assert squared_error(predicted, target, covered).item() == pytest.approx(0.125)


def test_overlap_is_intersection_over_union() -> None:
    predicted, target = image([[0.9, 0.6], [0.1, 0.0]]), image([[1.0, 0.0], [1.0, 0.0]])
    assert overlap(predicted, target, COVERED).item() == pytest.approx(1 / 3)
    assert torch.isnan(
        overlap(image([[0.0, 0.0], [0.1, 0.0]]), image([[0.0, 0.2], [0.0, 0.0]]), COVERED)
    ).all()


def test_total_variation_of_a_step_and_of_its_blur() -> None:
    step, blur = image([[0.0, 1.0], [0.0, 1.0]]), image([[0.25, 0.75], [0.25, 0.75]])
    assert total_variation(step, COVERED).item() == pytest.approx(2.0)
    assert total_variation(blur, COVERED).item() == pytest.approx(1.0)


def test_differences_to_what_was_not_recorded_are_no_variation() -> None:
    rows = image([[0.0, 0.0], [1.0, 1.0], [1.0, 0.5]])
    covered = torch.tensor([False, True, True]).view(1, 1, 1, 3, 1)
    assert total_variation(rows, covered).item() == pytest.approx(0.5 + 0.5)


def test_best_sample_is_chosen_per_window_over_the_whole_horizon() -> None:
    target = torch.zeros(2, 3, 1, 2, 2)
    samples = torch.stack([target + 0.1, target + 0.2])
    samples[:, 1] = samples[:, 1].flip(0)  # in the second window the other sample is better
    covered = torch.ones(2, 3, 1, 2, 1, dtype=torch.bool)
    assert best_sample(samples, target, covered).unique().tolist() == pytest.approx([0.1])


def test_a_perfect_prediction_scores_perfectly() -> None:
    clips = [make_clip(2, relative_speed=3.0), make_clip(3)]
    scores = score_predictions(
        lambda clip: clip.image[None, :, HISTORY:, 1:2].float() / 255,
        clips,
        history=HISTORY,
        vehicle_channel=1,
    )
    assert scores.mse.shape == (5, HORIZON)
    assert float(scores.mse.max()) == 0.0
    assert float(np.nanmin(scores.iou)) == 1.0
    np.testing.assert_allclose(scores.sharpness, 1.0, rtol=1e-5)
    assert scores.cluster.tolist() == [0, 1, 0, 1, 2]


def test_no_windows_is_an_error() -> None:
    with pytest.raises(ValueError, match="no windows to score"):
        score_predictions(lambda clip: clip.image[None].float(), [], history=4, vehicle_channel=1)


def test_sharpness_is_not_defined_where_there_is_nobody() -> None:
    target = torch.zeros(2, 1, 1, 4, 4)
    target[0, 0, 0, 1, 1] = 1.0
    covered = torch.ones(2, 1, 1, 4, 1, dtype=torch.bool)
    found = sharpness(0.5 * target + 0.0, target, covered)
    assert found[0, 0] == 0.5
    assert found[1, 0].isnan()
