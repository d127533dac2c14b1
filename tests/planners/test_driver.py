"""The simulated driver drives as the simulator does, by our pedal and wheel."""

import numpy as np
import pytest
import torch

from planners import SimulatedDriver
from tests.planners.test_oracle import ROAD, Arc, Stage, Straight
from worldmodel.protocols import Planner
from worldmodel.scene import step
from worldmodel.scene.traffic import MIXED, DriverType, Population, Spread, advance
from worldmodel.types import Obs

SLOW_AHEAD = [(200.0, 1, 18.0), (240.0, 1, 9.0), (150.0, 0, 18.0)]


def drive(stage: Stage, planner: SimulatedDriver, num_steps: int) -> torch.Tensor:
    """Lane and speed of the ego, step by step `(T, B, 2)`."""
    seen = []
    for _ in range(num_steps):
        stage.drive(planner.plan(stage.obs()).action[:, 0])
        seen.append(torch.stack([stage.state.lane[:, 0].double(), stage.state.speed[:, 0]], dim=-1))
    return torch.stack(seen)


@pytest.mark.slow
@pytest.mark.parametrize("curve", [Straight(), Arc()], ids=["straight", "arc"])
def test_it_does_what_the_simulator_does_in_its_place(curve: Straight | Arc) -> None:
    """Overtakes when its simulated twin does, though our car does not slip sideways."""
    stage, twin = Stage(SLOW_AHEAD, curve=curve), Stage(SLOW_AHEAD, curve=curve)
    planner = SimulatedDriver(stage)
    assert isinstance(planner, Planner)
    found = drive(stage, planner, 60)
    lanes, speeds = [], []
    for _ in range(60):
        twin.state = advance(twin.state, twin.drivers, ROAD)
        lanes.append(twin.state.lane[0, 0].item())
        speeds.append(twin.state.speed[0, 0].item())
    assert set(lanes) == {1, 2}
    assert np.abs(found[:, 0, 0].numpy() - lanes).sum() <= 3
    np.testing.assert_allclose(found[:, 0, 1].numpy(), speeds, atol=0.3)
    # A metre of the road is up to 2 % longer in the outer lane, which the simulator does not mind.
    assert abs(stage.state.x[0, 0].item() - twin.state.x[0, 0].item()) < (0.5 if curve == Straight() else 2.5)


def test_a_lane_change_that_has_begun_is_carried_through() -> None:
    """What the environment knows of the ego's plans is nothing: they are in the driver's head."""
    stage = Stage(SLOW_AHEAD)
    planner = SimulatedDriver(stage)
    targets = []
    for _ in range(40):
        stage.drive(planner.plan(stage.obs()).action[:, 0])
        targets.append(planner._minds[0].memory["target"])
        assert stage.state.target[0, 0] == stage.state.lane[0, 0]
    begun = targets.index(2)
    assert stage.state.lane[0, 0] == 2 and targets[begun:] == [2] * (40 - begun)


def test_another_population_takes_the_seat() -> None:
    stage = Stage([(200.0, 1, 15.0)], [(200.0, 1, 15.0)])
    eager = Population((DriverType(desired_speed=Spread(30.0), accel=Spread(2.0)),))
    own = SimulatedDriver(stage).plan(stage.obs()).action[:, 0, 0]
    other = SimulatedDriver(stage, population=eager).plan(stage.obs()).action[:, 0, 0]
    torch.testing.assert_close(own, torch.full((2,), 3.0 * (1 - 0.75**4)))
    torch.testing.assert_close(other, torch.full((2,), 2.0 * (1 - 0.5**4)))
    assert stage.drivers.desired_speed[0, 0] == 20.0


def accelerations(planner: SimulatedDriver, obs: Obs, num: int = 5) -> torch.Tensor:
    return torch.stack([planner.plan(obs).action[:, 0, 0] for _ in range(num)])


def test_a_seed_decides_the_driver_and_what_he_misjudges() -> None:
    stage = Stage(*[[(200.0, 1, 15.0)]] * 2)
    planner, obs = SimulatedDriver(stage, population=MIXED), stage.obs()
    found = {}
    for seed in (3, 4, 3):
        planner.reset(seed)
        again = accelerations(planner, obs)
        assert seed not in found or torch.equal(found[seed], again)
        found[seed] = again
    assert not torch.allclose(found[3], found[4])
    assert not torch.allclose(found[3][:, 0], found[3][:, 1])  # scenes have drivers of their own,
    planner.reset(3)  # whatever they come with
    torch.testing.assert_close(accelerations(planner, obs[1:]), found[3][:, 1:])


def test_the_plan_leads_where_the_action_does() -> None:
    stage = Stage(SLOW_AHEAD)
    plan, obs = SimulatedDriver(stage).plan(stage.obs()), stage.obs()
    start = torch.tensor([[0.0, 0.0, 0.0, obs.state[0, -1, 3]]])
    torch.testing.assert_close(plan.ego[:, 0], step(start, plan.action[:, 0], 0.1))
