"""What a policy sees is the same thing, whether observed or imagined."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from planners.policy import PolicyView, ViewSpec, look, proceed, situate, view_of
from tests.models.factories import HISTORY, SPEC, make_clip, make_obs
from tests.planners.policy.factories import with_road
from worldmodel.data import Span, make_recording
from worldmodel.data.dataset import WindowDataset, windows
from worldmodel.scene import RoadChannel, relative_pose
from worldmodel.types import Clip, Prediction

VIEW = ViewSpec(raster=SPEC, lag=2, pool=(2, 1))
STEPS = 8


def recorded(*, mirror: bool = False) -> Clip:
    """Windows of made-up traffic with curved paths, the future drawn in the co-moving frame."""
    recording = make_recording(num_vehicles=8, num_frames=60, seed=3)
    recording = recording.mirror() if mirror else recording
    index = windows([recording], [Span(recording.name, 0, 60)], history=10, horizon=STEPS, stride=20)
    dataset = WindowDataset([recording], index, history=10, horizon=STEPS)
    return dataset.collate([dataset[i] for i in range(0, len(dataset), 3)])


@pytest.mark.slow
def test_the_view_from_true_predictions_is_the_view_of_the_observation_there() -> None:
    clip, spec = recorded(), ViewSpec()
    now = clip.state[:, 9:10]
    situation = situate(clip.obs(10), spec)
    for step in range(STEPS):
        frame = Prediction(
            image=clip.image[:, 10 + step, 1:2].float() / 255,
            ego=relative_pose(clip.state[:, 10 + step], now[:, 0]),
            view=relative_pose(clip.view[:, 10 + step], now[:, 0]),
        )
        situation = proceed(situation, clip.action[:, 9 + step], frame, spec=spec)
    imagined = look(situation, spec)
    later = make_later(STEPS)
    observed = view_of(later.obs(10), spec)
    torch.testing.assert_close(imagined.ego, observed.ego, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(imagined.road[..., 1:], observed.road[..., 1:], atol=0.1, rtol=0.0)
    # Away from the border, where the co-moving raster reaches, resampling is all that differs.
    inner = (slice(None), slice(None), slice(6, -6), slice(3, -3))
    difference = (imagined.vehicles[inner] - observed.vehicles[inner]).abs()
    assert observed.vehicles[inner].mean() > 0.01
    assert difference.mean() < 0.15 * observed.vehicles[inner].mean()


def make_later(steps: int) -> Clip:
    """The windows of `recorded`, so many frames later."""
    recording = make_recording(num_vehicles=8, num_frames=60, seed=3)
    index = windows([recording], [Span(recording.name, 0, 60)], history=10, horizon=STEPS, stride=20)
    chosen = index[::3] + np.array([0, 0, steps])
    dataset = WindowDataset([recording], chosen, history=10, horizon=0)
    return dataset.collate(list(chosen))


def test_a_car_that_keeps_its_distance_stands_still_between_the_two_rasters() -> None:
    view = view_of(make_obs(), VIEW)
    assert view.vehicles.shape == (2, 2, SPEC.height // 2, SPEC.width)
    torch.testing.assert_close(view.vehicles[:, 0], view.vehicles[:, 1], atol=1e-4, rtol=0)
    assert view.vehicles.max() > 0.9


def test_a_car_that_gains_was_nearer_before() -> None:
    view = view_of(make_obs(relative_speed=6.0), VIEW)
    rows = torch.arange(SPEC.height // 2, 0, -1.0)
    mass = view.vehicles.sum(-1)
    ahead = (mass * rows).sum(-1) / mass.sum(-1)  # rows ahead
    assert ((ahead[:, 0] - ahead[:, 1]) * 2 * SPEC.resolution).tolist() == pytest.approx([1.2, 1.2], abs=0.1)


def test_the_previous_action_is_read_from_the_history() -> None:
    obs = make_obs(speed=10.0)
    obs.state[:, -2, 3] = 9.7
    torch.testing.assert_close(
        view_of(obs, VIEW).ego[0], torch.tensor([10.0, 3.0, 0.0, 4.5, 1.9]), atol=1e-4, rtol=0
    )


def test_the_road_is_seen_from_the_ego() -> None:
    obs = with_road(make_obs(1))
    left = replace(situate(obs, VIEW), ego=torch.tensor([[5.0, 1.0, 0.05, 10.0]]))
    road = look(left, VIEW).road.unflatten(1, (len(VIEW.ahead), len(VIEW.aside)))
    middle = VIEW.aside.index(0.0)
    # A straight road: heading is minus the ego's, the offset grows with the way ahead.
    torch.testing.assert_close(road[..., RoadChannel.HEADING], torch.full_like(road[..., 2], -0.05))
    offset = road[0, :3, middle, RoadChannel.LANE].sqrt() * 1.8
    expected = 1.0 + torch.tensor(VIEW.ahead[:3]) * 0.05
    torch.testing.assert_close(offset, expected, atol=0.05, rtol=0)


def test_the_mirrored_world_is_seen_mirrored() -> None:
    spec = ViewSpec()
    plain, mirrored = view_of(recorded().obs(10), spec), view_of(recorded(mirror=True).obs(10), spec)
    torch.testing.assert_close(mirrored.vehicles, plain.vehicles.flip(-1), atol=0.02, rtol=0)
    swapped = plain.road.unflatten(1, (len(spec.ahead), len(spec.aside))).flip(2).flatten(1, 2)
    sign = torch.tensor([1.0, 1.0, -1.0])
    torch.testing.assert_close(mirrored.road, swapped * sign, atol=0.1, rtol=0)
    torch.testing.assert_close(
        mirrored.ego, plain.ego * torch.tensor([1.0, 1.0, -1.0, 1.0, 1.0]), atol=1e-4, rtol=0
    )


def test_rows_are_rows() -> None:
    view = view_of(make_obs(3), VIEW)
    assert isinstance(view[:1], PolicyView)
    alone = view_of(make_obs(3)[1:2], VIEW)
    torch.testing.assert_close(view[1:2].vehicles, alone.vehicles)


def test_what_cannot_be_seen_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 6 frames"):
        view_of(make_obs(), ViewSpec(raster=SPEC, lag=5, pool=(1, 1)))
    with pytest.raises(ValueError, match="this policy needs"):
        view_of(make_obs(), ViewSpec(lag=2))
    with pytest.raises(ValueError, match="does not divide"):
        ViewSpec(raster=SPEC, pool=(3, 1))
    with pytest.raises(ValueError, match="expected at least 1"):
        ViewSpec(lag=0)
    assert make_clip().obs(HISTORY).image.shape[1] == HISTORY
