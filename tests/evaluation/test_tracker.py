"""Everybody keeps his velocity: exact where that is so, wrong where somebody brakes, blind to who comes."""

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from envs import ReplayVectorEnv, TrafficVectorEnv, WorldModelVectorEnv
from envs.highway import HighwayVectorEnv
from tests.envs import test_traffic
from worldmodel.data.dataset import FutureViews, WindowDataset, comoving_future, ego_future
from worldmodel.evaluation.protocol import Episode, episodes
from worldmodel.evaluation.suite import to_obs
from worldmodel.evaluation.tracker import ConstantVelocity, ConstantVelocityContext
from worldmodel.evaluation.truth import Truth
from worldmodel.models import CopyContext, TrueContext
from worldmodel.scene import LaneMap, RasterSpec, Recording, Tracks
from worldmodel.types import Clip, Obs

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


# --- As what is planned on ----------------------------------------------------------------------------------


def at_decision(*recordings: Recording) -> tuple[Truth, Obs]:
    """Returns the ego of each recording at `NEWEST`, and who is there."""
    found = [Episode(i, EGO, 7, NEWEST, NEWEST + HORIZON, 20.0, HISTORY) for i in range(len(recordings))]
    env = ReplayVectorEnv(recordings, found, len(found), history=HISTORY)
    scene = 3 + np.arange(len(found))
    observation, info = env.reset(options={"episode": np.arange(len(found))})
    truth = Truth()
    truth.watch(env, scene)
    return truth, to_obs(observation, info, scene=scene)


def test_a_leader_who_keeps_his_speed_is_where_he_will_truly_be() -> None:
    """2 m/s faster than the ego; a copy of the present leaves him where he is."""
    recording = make_pair()
    truth, obs = at_decision(recording)
    predicted = ConstantVelocityContext(truth)(obs, HORIZON).image
    torch.testing.assert_close(
        predicted, TrueContext([recording])(obs, HORIZON).image, atol=1.01 / 255, rtol=0
    )
    offset = 12.0 + 2.0 * DT * torch.arange(1, HORIZON + 1)
    torch.testing.assert_close(ahead(predicted[0, :, 0]), offset, atol=0.02, rtol=0)
    copied = ahead(CopyContext(SPEC)(obs, HORIZON).image[0, :, 0])
    torch.testing.assert_close(copied, torch.full((HORIZON,), 12.0), atol=0.02, rtol=0)


def test_what_comes_after_the_decision_is_not_seen() -> None:
    """Who brakes from now on is carried on as if he did not, and who drives off is still there."""
    futures = [make_pair(), make_pair(brake=3.0), make_pair(seen_until=NEWEST + 1)]
    truth, obs = at_decision(*futures)
    keeps, brakes, leaves = ConstantVelocityContext(truth)(obs, HORIZON).image
    assert keeps.sum() > 0
    torch.testing.assert_close(brakes, keeps, atol=0, rtol=0)
    torch.testing.assert_close(leaves, keeps, atol=0, rtol=0)


@pytest.mark.slow
def test_each_row_has_its_own_others_whatever_it_is_batched_with() -> None:
    truth, obs = at_decision(make_pair(), make_pair(seen_until=NEWEST), make_pair(brake=3.0))
    context = ConstantVelocityContext(truth)
    together = context(obs, HORIZON).image
    assert [bool(one.any()) for one in together] == [True, False, True]
    for row in (2, 0, 1):
        torch.testing.assert_close(
            context(obs[torch.tensor([row])], HORIZON).image[0], together[row], atol=0, rtol=0
        )


def test_it_carries_on_who_is_there_and_not_who_was_recorded() -> None:
    """Simulated traffic: a leader who has braked for cars that stand is carried on at what is left."""
    cars = [(100.0, 0.0, 20.0), (135.0, 0.0, 20.0), (260.0, 0.0, 0.0), (260.0, -4.0, 0.0)]
    recording, scenario = test_traffic.make_straight(cars)
    found = [one for one in episodes([recording]) if one.vehicle == 0]
    env = TrafficVectorEnv([recording], found, 1, scenario=scenario, history=3)
    observation, info = env.reset(options={"episode": 0})
    truth = Truth()
    truth.watch(env, np.array([0]))
    for _ in range(25):
        observation, *_, info = env.step(np.zeros((1, 2), dtype=np.float32))
    obs = to_obs(observation, info)
    others = truth.others(obs)
    leader = others.id[0] == 11
    speed, gap = others.speed[0, leader].item(), others.box[0, leader, 0].item() - obs.state[0, -1, 0].item()
    assert speed < 19.0
    predicted = ahead(ConstantVelocityContext(truth)(obs, 5).image[0, :, 0])
    expected = gap + (speed - 20.0) * DT * torch.arange(1, 6)
    torch.testing.assert_close(predicted, expected, atol=0.02, rtol=0)


def test_it_asks_who_is_there_which_imagination_does_not_know() -> None:
    for env in (ReplayVectorEnv, TrafficVectorEnv, HighwayVectorEnv):
        assert ConstantVelocityContext.needs <= env.knows
    assert not ConstantVelocityContext.needs & WorldModelVectorEnv.knows
