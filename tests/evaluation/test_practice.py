"""Own situations in the batches: they come from the planner's own driving, and only so many."""

import copy

import pytest
import torch

from envs import ReplayVectorEnv, TrafficVectorEnv
from tests.envs import test_traffic as simulated
from tests.envs.factories import ROAD, SPEC
from worldmodel.data.datamodule import TrafficDataModule
from worldmodel.data.split import Span, Split
from worldmodel.data.synthetic import make_recording
from worldmodel.evaluation.practice import Practice, as_clip
from worldmodel.evaluation.protocol import episodes
from worldmodel.evaluation.suite import to_obs
from worldmodel.scene import SPEED
from worldmodel.types import Clip, Obs, Plan

RECORDING = make_recording(seed=1, num_frames=90)
HISTORY = 10


class Brake:
    """Brakes, which nobody in the recording does."""

    def reset(self, seed: int | None = None) -> None: ...

    def plan(self, obs: Obs) -> Plan:
        action = torch.zeros(obs.batch_size, 1, 2)
        action[:, :, 0] = -4.0
        return Plan(action, torch.zeros(obs.batch_size, 1, 4), torch.zeros(obs.batch_size))


def make_env(num_envs: int = 4) -> ReplayVectorEnv:
    return ReplayVectorEnv(
        [RECORDING], episodes([RECORDING]), num_envs, history=HISTORY, raster_spec=SPEC, road_spec=ROAD,
        autoreset_mode="SameStep",
    )  # fmt: skip


def make_traffic_env() -> TrafficVectorEnv:
    return simulated.make_env(autoreset_mode="SameStep")


def make_batch(num: int = 6) -> Clip:
    split = Split(train=(Span(RECORDING.name, 0, 90),))
    module = TrafficDataModule(
        [RECORDING], split, history=HISTORY, horizon=2, batch_size=num, mirror=0.0, spec=SPEC, road_spec=ROAD
    )
    clip: Clip = next(iter(module.train_dataloader()))
    return clip


def test_a_share_of_the_batch_is_where_the_planner_got_to() -> None:
    batch = make_batch()
    practice = Practice(Brake(), make_env(), share=0.5, num_ticks=8)
    mixed = practice(batch)
    assert mixed.image.shape == batch.image.shape and mixed.road.dtype == batch.road.dtype
    slower = mixed.state[:, HISTORY - 1, SPEED] - mixed.state[:, 1, SPEED]
    torch.testing.assert_close(slower[:3], torch.full_like(slower[:3], -0.1 * 4 * 8), atol=1e-3, rtol=0)
    assert (slower[3:].abs() < 1.0).all()
    for name in ("image", "state", "size", "road", "origin"):
        torch.testing.assert_close(getattr(mixed, name)[3:], getattr(batch, name)[3:])
    assert len({tuple(row) for row in mixed.origin[:3].tolist()}) == 3


@pytest.mark.slow
def test_it_drives_on_from_batch_to_batch_and_begins_anew_when_it_is_over() -> None:
    practice, batch = Practice(Brake(), make_env(), share=0.5, num_ticks=5), make_batch()
    frames = [practice(batch).origin[:3, 2].max().item() for _ in range(3)]
    assert frames == sorted(frames) and frames[0] < frames[2]
    later = [practice(batch).origin[:3, 2].min().item() for _ in range(20)]  # longer than any episode
    assert min(later) < frames[2]


class Hesitate:
    """Brakes the more the faster it is, so that egos do not stay alike."""

    def reset(self, seed: int | None = None) -> None: ...

    def plan(self, obs: Obs) -> Plan:
        action = torch.zeros(obs.batch_size, 1, 2)
        action[:, 0, 0] = -0.2 * obs.state[:, -1, SPEED]
        return Plan(action, torch.zeros(obs.batch_size, 1, 4), torch.zeros(obs.batch_size))


@pytest.mark.slow
@pytest.mark.parametrize(("traffic", "num_batches"), [("recorded", 1), ("recorded", 17), ("simulated", 4)])
def test_from_its_state_it_makes_the_last_batch_and_those_after_it_again(
    traffic: str, num_batches: int
) -> None:
    batch, make = make_batch(), {"recorded": make_env, "simulated": make_traffic_env}[traffic]
    whole = Practice(Hesitate(), make(), share=0.5, num_ticks=5)
    made = [whole(batch) for _ in range(num_batches)]
    state = copy.deepcopy(whole.state_dict())
    made = [made[-1], *(whole(batch) for _ in range(12))]
    begun = Practice(Hesitate(), make(), share=0.5, num_ticks=5)
    begun.load_state_dict(state)
    for expected in made:
        found = begun(batch)
        for name in ("image", "state", "road", "origin"):
            assert torch.equal(getattr(found, name), getattr(expected, name))
    assert len(begun.state_dict()["action"]) <= RECORDING.num_frames  # as far back as an episode reaches


def test_an_observation_is_the_history_of_its_window() -> None:
    env = make_env()
    obs = to_obs(*env.reset(seed=0))
    clip = as_clip(obs, num_frames=HISTORY + 3, dt=0.1)
    again = clip.obs(HISTORY)
    for name in ("image", "state", "size", "road", "origin"):
        torch.testing.assert_close(getattr(again, name), getattr(obs, name))
    assert clip.action.shape[1] == HISTORY + 2 and (clip.state[:, -1] == obs.state[:, -1]).all()
    assert clip.covered[:, :HISTORY].all() and not clip.covered[:, HISTORY:].any()
    with pytest.raises(ValueError, match="num_frames=9, but the observation has 10"):
        as_clip(obs, num_frames=9, dt=0.1)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"share=0\.0"):
        Practice(Brake(), make_env(), share=0.0)
