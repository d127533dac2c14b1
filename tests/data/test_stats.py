"""Statistics by hand, and from the training frames only."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from worldmodel.data import Span, Stats, compute_stats, make_recording
from worldmodel.scene import LaneMap, Recording, Tracks, rollout


def make_driven(actions: list[tuple[float, float]], *, name: str = "driven") -> Recording:
    """One car that starts at 10 m/s and does what it is told."""
    start = torch.tensor([0.0, 0.0, 0.3, 10.0], dtype=torch.float64)
    states = torch.cat([start[None], rollout(start, torch.tensor(actions, dtype=torch.float64), 0.1)])
    valid = np.ones((1, len(states)), dtype=bool)
    tracks = Tracks(np.array([5]), states.numpy()[None], np.array([[4.0, 2.0]]), valid)
    road = LaneMap.straight(length=100.0, num_lanes=1)
    return Recording(name, tracks, road, 0.1, np.tile([0.0, 100.0], (len(states), 1)))


def test_by_hand() -> None:
    recording = make_driven([(1.0, 0.01), (3.0, 0.03)])
    found = compute_stats([recording], [Span("driven", 0, 3)])
    assert found.num_steps == 2
    np.testing.assert_allclose(found.action_mean, [2.0, 0.02])
    np.testing.assert_allclose(found.action_std, [1.0, 0.01])
    # Speeds after the steps: 10.1, 10.4 m/s; displacements 1.01, 1.04 m; turns curvature x displacement.
    assert found.state_mean[3] == pytest.approx(10.25) and found.state_std[3] == pytest.approx(0.15)
    turns = np.array([0.01 * 1.01, 0.03 * 1.04])
    assert found.state_mean[2] == pytest.approx(turns.mean())
    along = np.array([1.01, 1.04]) * np.cos(turns)
    assert found.state_mean[0] == pytest.approx(along.mean())


def test_only_the_spans_count() -> None:
    recording = make_driven([(0.0, 0.0)] * 5 + [(4.0, 0.1)] * 5)
    assert compute_stats([recording], [Span("driven", 0, 6)]).action_mean == pytest.approx((0.0, 0.0))
    assert compute_stats([recording], [Span("driven", 5, 11)]).action_mean == pytest.approx((4.0, 0.1))
    # The step from one span to the next belongs to neither.
    both = compute_stats([recording], [Span("driven", 0, 3), Span("driven", 3, 6)])
    assert both.num_steps == 4


def test_where_nobody_looked_changes_nothing() -> None:
    recording = make_recording(2, 12, 80, window=(120.0, 200.0))
    state = recording.tracks.state.copy()
    state[~recording.tracks.valid] = 1e6
    other = replace(recording, tracks=replace(recording.tracks, state=state))
    spans = [Span(recording.name, 0, 80)]
    assert compute_stats([recording], spans) == compute_stats([other], spans)


def test_constants_do_not_divide_by_zero() -> None:
    assert compute_stats([make_driven([(0.0, 0.0)] * 3)], [Span("driven", 0, 4)]).action_std == (1e-3, 1e-3)


def test_there_and_back_as_json() -> None:
    found = compute_stats([make_driven([(1.0, 0.01), (3.0, 0.03)])], [Span("driven", 0, 3)])
    assert Stats.from_json(found.to_json()) == found
    for text in ("{}", "no", '{"num_steps": 1}'):
        with pytest.raises(ValueError, match="not statistics"):
            Stats.from_json(text)


def test_empty_spans_are_refused() -> None:
    recording = make_driven([(1.0, 0.01)])
    with pytest.raises(ValueError, match="0 spans without a vehicle"):
        compute_stats([recording], [])
    with pytest.raises(ValueError, match="'other', found"):
        compute_stats([recording], [Span("other", 0, 2)])
    with pytest.raises(ValueError, match="for two frames"):
        compute_stats([recording], [Span("driven", 0, 2, (5,))])
