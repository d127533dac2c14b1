"""Everybody keeps his velocity: exact where that is so, wrong where somebody brakes, blind to who comes."""

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.data.dataset import FutureViews, WindowDataset, comoving_future, ego_future
from worldmodel.evaluation.tracker import ConstantVelocity
from worldmodel.scene import LaneMap, RasterSpec, Recording, Tracks
from worldmodel.types import Clip

HISTORY, HORIZON, DT = 4, 20, 0.1
SPEC = RasterSpec()
NEWEST = 10
EGO, AHEAD = 0, 1
VEHICLES = 1  # channel


def make_pair(*, brake: float = 0.0, seen_until: int | None = None) -> Recording:
    """Returns the ego at 10 m/s, and 12 m ahead a car at 12 m/s that brakes from `NEWEST` on [m/s^2]."""
    num_frames = NEWEST + HORIZON + 1
    since = DT * np.clip(np.arange(num_frames) - NEWEST, 0, None)
    state = np.zeros((2, num_frames, 4))
    state[..., 1] = 1.85
    state[EGO, :, 3], state[AHEAD, :, 3] = 10.0, 12.0 - brake * since
    travelled = DT * np.cumsum(
        state[..., 3], axis=1
    )  # each step at the speed it ends with, as the integrator
    state[..., 0] = travelled - travelled[:, NEWEST : NEWEST + 1] + np.array([[50.0], [62.0]])
    valid = np.ones((2, num_frames), dtype=bool)
    valid[AHEAD, seen_until:] = seen_until is None
    tracks = Tracks(np.array([7, 8]), state, np.array([[4.5, 1.8], [5.0, 2.0]]), valid)
    coverage = np.tile([0.0, 400.0], (num_frames, 1))
    return Recording("pair", tracks, LaneMap.straight(length=400.0, num_lanes=1), DT, coverage)


def forecast(
    recording: Recording, views: FutureViews = comoving_future
) -> tuple[Clip, Float[Tensor, "T H W"]]:
    """Returns the window at `NEWEST`, and the vehicles predicted in it."""
    index = np.array([[0, EGO, NEWEST]])
    dataset = WindowDataset([recording], index, history=HISTORY, horizon=HORIZON, future_views=views)
    clip = dataset.collate([index[0]])
    return clip, ConstantVelocity(dataset.recordings, HISTORY, SPEC)(clip)[0, 0, :, 0]


def recorded(clip: Clip) -> Float[Tensor, "T H W"]:
    return clip.image[0, HISTORY:, VEHICLES].float() / 255


def ahead(image: Float[Tensor, "T H W"]) -> Float[Tensor, " T"]:
    """Returns how far ahead of the view the occupied pixels are, on average [m]."""
    rows = torch.from_numpy(SPEC.row_positions()).to(image)
    return (image.sum(2) * rows).sum(1) / image.sum((1, 2))


@pytest.mark.parametrize("views", [comoving_future, ego_future])
def test_where_everybody_keeps_his_velocity_the_recording_is_predicted(views: FutureViews) -> None:
    clip, predicted = forecast(make_pair(), views)
    assert recorded(clip).sum() > 0
    torch.testing.assert_close(predicted, recorded(clip), atol=1.01 / 255, rtol=0)


def test_who_brakes_is_overrun_by_the_metres_he_did_not_drive() -> None:
    clip, predicted = forecast(make_pair(brake=3.0))
    steps = torch.arange(1, HORIZON + 1)
    missed = 3.0 * DT**2 * (steps * (steps + 1) / 2)  # sum of a dt i dt
    torch.testing.assert_close(ahead(predicted) - ahead(recorded(clip)), missed, atol=0.02, rtol=0)


def test_only_who_is_recorded_now_is_carried_on() -> None:
    clip, predicted = forecast(make_pair(seen_until=NEWEST + 1))
    assert recorded(clip).sum() == 0
    assert (predicted.sum((1, 2)) > 0).all()
    assert forecast(make_pair(seen_until=NEWEST))[1].sum() == 0
