"""The learning rate under a time budget, and normalisation from statistics."""

import pytest

from worldmodel.data import Span, compute_stats, make_recording
from worldmodel.models import ForwardModel
from worldmodel.training.normalisation import set_normalisation
from worldmodel.training.optimizer import warmup_cosine


def test_the_schedule_ends_with_the_time_where_that_runs_out_first() -> None:
    used = 0.0
    factor = warmup_cosine(1000, warmup=2, floor=0.1, elapsed=lambda: used)
    assert [factor(0), factor(1)] == [0.5, 1.0]
    used = 0.5
    assert factor(10) == pytest.approx(0.55)
    used = 1.0
    assert factor(11) == pytest.approx(0.1)


def test_steps_count_where_they_are_further_than_the_time() -> None:
    assert warmup_cosine(50, warmup=5, floor=0.1, elapsed=lambda: 0.2)(49) == pytest.approx(0.1)


def test_the_speed_is_normalised_by_the_training_frames_only() -> None:
    recording = make_recording(num_vehicles=5, num_frames=40)
    model = ForwardModel(channels=8)
    set_normalisation(model, compute_stats([recording], [Span(recording.name, 0, 20)]))
    speed = recording.tracks.state[:, 1:20, 3]
    assert float(model.speed_mean) == pytest.approx(speed.mean())
    assert float(model.speed_std) == pytest.approx(speed.std(), rel=1e-5)
