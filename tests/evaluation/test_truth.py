"""The truth answers for the rows that are asked for, whichever slots hold them and however often."""

import numpy as np
import pytest
import torch

from envs import ReplayVectorEnv, TrafficVectorEnv
from envs.highway import HighwayVectorEnv
from planners import IDM, SimulatedDriver
from tests.envs import test_traffic
from tests.envs.factories import make_env as make_replay
from tests.envs.factories import shared
from worldmodel.evaluation.protocol import episodes
from worldmodel.evaluation.suite import evaluate, to_obs
from worldmodel.evaluation.truth import Knowing, OthersSource, TrafficSource, Truth
from worldmodel.protocols import Knowledge
from worldmodel.types import Obs, Plan


def watched(env, numbers, scene) -> tuple[Truth, Obs]:
    """The truth about episodes `numbers`, one a slot, in rows that are called `scene`."""
    observation, info = env.reset(options={"episode": np.array(numbers)})
    truth = Truth()
    truth.watch(env, np.array(scene))
    return truth, to_obs(observation, info, scene=np.array(scene))


def egos(truth: Truth, obs: Obs) -> torch.Tensor:
    """Where the truth says that the rows' egos are, in the world."""
    traffic = truth.traffic(obs)
    pose = torch.stack([traffic.state.x, traffic.state.y, traffic.state.heading], dim=-1)
    mine = pose[torch.arange(obs.batch_size), traffic.ego]
    return torch.from_numpy(traffic.curve.to_world(mine.numpy()))


def test_rows_are_found_by_their_scene_in_any_order_and_selection() -> None:
    truth, obs = watched(test_traffic.make_env(4), [5, 1, 7, 3], [50, 10, 70, 30])
    assert isinstance(truth, TrafficSource) and isinstance(truth, OthersSource)
    for rows in ([0, 1, 2, 3], [2, 0], [3]):
        chosen = obs[torch.tensor(rows)]
        torch.testing.assert_close(egos(truth, chosen).float(), chosen.state[:, -1, :3])
        alone = truth.others(chosen)
        for place, row in enumerate(rows):
            np.testing.assert_array_equal(alone.box[place], truth.others(obs).box[row])


def test_after_slots_are_reset_the_rows_are_still_theirs() -> None:
    """Slots 0 and 2 begin anew, while 1 and 3 drive on; then everybody is elsewhere, and told so."""
    env = test_traffic.make_env(4)
    truth, obs = watched(env, [5, 1, 7, 3], [5, 1, 7, 3])
    for _ in range(3):
        env.step(np.tile(np.float32([1.0, 0.0]), (4, 1)))
    mask = np.array([True, False, True, False])
    observation, info = env.reset(options={"reset_mask": mask, "episode": np.array([2, 0, 6, 0])})
    now = np.array([2, 1, 6, 3])
    info["origin"] = np.array(env.core.origin)
    truth.watch(env, now)
    obs = to_obs(observation, info, scene=now)[torch.tensor([3, 2, 0])]
    torch.testing.assert_close(egos(truth, obs).float(), obs.state[:, -1, :3])
    np.testing.assert_array_equal(env.core.steps, [0, 3, 0, 3])
    with pytest.raises(ValueError, match=r"scenes \[5\] are in no slot .* holds \[1, 2, 3, 6\]"):
        truth.traffic(to_obs(observation, info, scene=np.array([5, 1, 6, 3])))


class Witness:
    """Asks for the truth at every decision, and checks that it is about its own rows."""

    def __init__(self, truth: Truth) -> None:
        self.truth, self.asked = truth, 0

    def reset(self, seed: int | None = None) -> None:
        pass

    def plan(self, obs: Obs) -> Plan:
        torch.testing.assert_close(egos(self.truth, obs).float(), obs.state[:, -1, :3], atol=1e-3, rtol=0)
        self.asked += obs.batch_size
        action = torch.zeros(obs.batch_size, 1, 2)
        # Rows drive differently, so that one in the place of another is noticed.
        action[:, 0, 0] = -1.0 - 0.1 * obs.scene
        return Plan(action, torch.zeros(obs.batch_size, 1, 4), torch.zeros(obs.batch_size))


@pytest.mark.slow
def test_while_driving_every_row_is_told_about_itself() -> None:
    """Seven episodes, three at a time: the last one has two slots beside it that repeat it unseen."""
    recordings, renderers, found = test_traffic.shared()
    truth = Truth()
    witness = Witness(truth)

    def make_env(num_envs: int) -> TrafficVectorEnv:
        return TrafficVectorEnv(
            recordings, found[:7], num_envs, scenario=test_traffic.SCENARIO, renderers=renderers,
            autoreset_mode="Disabled", **test_traffic.OPTIONS,
        )  # fmt: skip

    rows = evaluate(
        {"witness": witness}, make_env, found[:7], recordings=recordings, batch_size=3, truth=truth
    ).rows
    assert witness.asked == sum(row.steps for row in rows) and len(rows) == 7


# --- Ghosts -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_idm_follows_who_is_there_and_not_who_was_recorded() -> None:
    """The recorded leader drives on; the simulated one brakes for cars that stand."""
    cars = [(100.0, 0.0, 20.0), (150.0, 0.0, 20.0), (260.0, 0.0, 0.0), (260.0, -4.0, 0.0)]
    recording, scenario = test_traffic.make_straight(cars[:2])
    blocked, _ = test_traffic.make_straight(cars)
    found = [one for one in episodes([blocked]) if one.vehicle == 0]
    live, recorded = [], []
    for env, braking in (
        (TrafficVectorEnv([blocked], found, 1, scenario=scenario, **test_traffic.OPTIONS), live),
        (ReplayVectorEnv([recording], episodes([recording])[:1], 1, **test_traffic.OPTIONS), recorded),
    ):
        truth, obs = watched(env, [0], [0])
        idm = IDM([recording], truth)
        for _ in range(40):
            action = idm.plan(obs).action[:, 0]
            braking.append(action[0, 0].item())
            observation, *_, info = env.step(action.numpy())
            obs = to_obs(observation, info)
    assert min(recorded) > -0.1
    assert min(live) < -1.0


def test_in_recorded_traffic_the_others_are_the_recorded_ones() -> None:
    env = make_replay(3)
    truth, obs = watched(env, [0, 4, 9], [0, 4, 9])
    others = truth.others(obs)
    recordings, _ = shared()
    for row, (index, vehicle, frame) in enumerate(obs.origin.tolist()):
        tracks = recordings[index].tracks
        there = np.flatnonzero(tracks.valid[:, frame])
        there = there[there != vehicle]
        np.testing.assert_allclose(others.box[row, others.valid[row], :3], tracks.state[there, frame, :3])
        np.testing.assert_array_equal(others.id[row, others.valid[row]], tracks.ids[there])


def test_in_highway_env_the_others_are_those_of_the_scene() -> None:
    env = HighwayVectorEnv(2, scenario="merge", **test_traffic.OPTIONS)
    truth, obs = watched(env, [3, 5], [3, 5])
    for _ in range(4):
        env.step(np.zeros((2, 2), dtype=np.float32))
    now = env.core.moments[1][-1]
    others = truth.others(obs[torch.tensor([1])])
    np.testing.assert_array_equal(
        others.box[0, others.valid[0], :3], now.state[now.number != env.core.vehicle[1], :3]
    )


# --- What is not known --------------------------------------------------------------------------------------


def test_environments_say_what_they_know() -> None:
    replay, traffic = make_replay(1), test_traffic.make_env(1)
    assert isinstance(replay, Knowing) and Knowledge.FUTURE in replay.knows
    assert Knowledge.TRAFFIC in traffic.knows and not {Knowledge.FUTURE, Knowledge.LOG} & traffic.knows


def test_errors_say_what_to_do() -> None:
    env = make_replay(2)
    truth, obs = watched(env, [0, 1], [0, 1])
    with pytest.raises(ValueError, match="ReplayVectorEnv does not know simulated traffic"):
        SimulatedDriver(truth).plan(obs)
    with pytest.raises(ValueError, match=r"scene numbers \[3, 3\] repeat"):
        truth.watch(env, np.array([3, 3]))
    with pytest.raises(ValueError, match=r"no slot .* call watch\(env, scene\)"):
        Truth().others(obs)


def test_slots_that_nobody_looks_at_may_repeat() -> None:
    truth = Truth()
    truth.watch(make_replay(3), np.array([4, -1, -1]))
