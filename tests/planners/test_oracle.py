"""The simulator as a world model: it agrees with the simulation, reacts, and planners drive by it."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch

from planners import (
    GradientPlanner,
    OnlinePlanner,
    OracleWorld,
    RecedingHorizon,
    cem,
    make_objective,
)
from worldmodel.costs import motorway_cost
from worldmodel.evaluation.truth import Traffic
from worldmodel.protocols import WorldModel
from worldmodel.scene import (
    LaneMap,
    RasterSpec,
    RoadField,
    boxes_overlap,
    comoving_views,
    relative_pose,
    render_boxes,
)
from worldmodel.scene.traffic import Drivers, TrafficRoad, TrafficState, advance
from worldmodel.types import Obs

SPEC = RasterSpec(height=101, width=16, resolution=0.7)
COST = motorway_cost(SPEC, target_speed=20.0)
ROAD = TrafficRoad.straight(num_lanes=3, length=2000.0)


@dataclass(frozen=True)
class Straight:
    """Road and world are the same."""

    road: TrafficRoad = ROAD

    def to_world(self, pose: np.ndarray) -> np.ndarray:
        return pose

    to_road = to_world


@dataclass(frozen=True)
class Arc:
    """A left turn about `(0, radius)`."""

    road: TrafficRoad = ROAD
    radius: float = 400.0

    def to_world(self, pose: np.ndarray) -> np.ndarray:
        x, y, heading = np.moveaxis(pose, -1, 0)
        turn, radius = x / self.radius, self.radius - y
        return np.stack([radius * np.sin(turn), self.radius - radius * np.cos(turn), heading + turn], axis=-1)

    def to_road(self, pose: np.ndarray) -> np.ndarray:
        x, y, heading = np.moveaxis(pose, -1, 0)
        turn = np.arctan2(x, self.radius - y)
        radius = np.hypot(x, self.radius - y)
        return np.stack([self.radius * turn, self.radius - radius, heading - turn], axis=-1)


LANES = RoadField(LaneMap.straight(length=600.0, num_lanes=3, lane_width=4.0))
"""The road of `Straight`, 10 m to the left."""


class Stage:
    """Cars `(x, lane, speed)` in each scene, the first being the ego: a `TrafficSource` and its simulator."""

    def __init__(self, *scenes: list[tuple[float, int, float]], curve: Straight | Arc = Straight()) -> None:
        x, lane, speed = torch.tensor(scenes, dtype=torch.float64).unbind(-1)
        centre = torch.from_numpy(ROAD.centre)
        self.state = TrafficState.on_lanes(x, lane.long(), speed, centre=centre)
        self.drivers = Drivers.alike(torch.full_like(x, 20.0))
        self.curve = curve

    def traffic(self, obs: Obs) -> Traffic:
        ego = torch.zeros(obs.batch_size, dtype=torch.long)
        return Traffic(self.state[obs.scene], self.drivers[obs.scene], ego, self.curve)

    def poses(self) -> torch.Tensor:
        """Of all vehicles in the world `(B, V, 3)`."""
        pose = torch.stack([self.state.x, self.state.y, self.state.heading], dim=-1)
        return torch.from_numpy(self.curve.to_world(pose.numpy()))

    def obs(self) -> Obs:
        B = self.state.num_scenes
        pose = self.poses()[:, 0]
        now = torch.cat([pose, self.state.speed[:, :1]], dim=-1).float()
        return Obs(
            image=torch.zeros(B, 1, 3, 4, 4, dtype=torch.uint8),
            state=now[:, None],
            size=torch.tensor([[5.0, 2.0]]).repeat(B, 1),
            road=torch.from_numpy(LANES.crop(pose.numpy() + np.array([0.0, 10.0, 0.0]))),
            origin=torch.zeros(B, 3, dtype=torch.long),
            scene=torch.arange(B),
        )

    def drive(self, action: torch.Tensor) -> None:
        """Moves the egos by `action` and the others by their rules."""
        world = OracleWorld(self, spec=SPEC)
        hidden, _ = world.step(world.init(self.obs()), action, torch.zeros(len(action), 0))
        self.state = hidden.traffic.state


QUEUE = [(200.0, 1, 15.0), (230.0, 1, 12.0), (180.0, 1, 16.0), (205.0, 0, 15.0)]


@pytest.mark.parametrize("curve", [Straight(), Arc()], ids=["straight", "arc"])
def test_the_others_move_as_they_are_simulated(curve: Straight | Arc) -> None:
    stage = Stage(QUEUE, curve=curve)
    world, obs = OracleWorld(stage, spec=SPEC), stage.obs()
    assert isinstance(world, WorldModel)
    action = torch.tensor([[-2.0, 0.0]]).expand(1, 12, 2)
    imagined = world.unroll(world.init(obs), action, torch.zeros(1, 12, 0))
    # The ego where the plan puts it, the others by the rules, seen from the co-moving frame.
    views = comoving_views(obs.state[:, -1].double(), 12, 0.1)
    state = stage.state
    for t in range(12):
        ego = imagined.ego[0, t].double()
        here = obs.state[0, -1].double()
        cos, sin = here[2].cos(), here[2].sin()
        at = torch.stack(
            [here[0] + cos * ego[0] - sin * ego[1], here[1] + sin * ego[0] + cos * ego[1], here[2] + ego[2]]
        )
        there = torch.from_numpy(stage.curve.to_road(at.numpy()[None]))
        driven_to = torch.cat([there, ego[None, 3:]], dim=-1)[None, None]
        state = advance(
            state, stage.drivers, ROAD, driven=torch.zeros(1, 1, dtype=torch.long), driven_to=driven_to
        )
    stage.state = state
    seen = relative_pose(stage.poses()[:, 1:], views[:, -1:])
    boxes = torch.cat([seen, torch.tensor([5.0, 2.0]).expand(1, 3, 2)], dim=-1).float()
    expected = render_boxes(boxes, torch.ones(1, 3, dtype=torch.bool), SPEC)
    torch.testing.assert_close(imagined.image[:, -1, 0], expected, atol=2e-3, rtol=0)
    assert expected.sum() > 50.0


def test_step_repeated_is_unroll() -> None:
    stage = Stage(QUEUE, [(300.0, 2, 10.0), (330.0, 2, 3.0), (310.0, 1, 12.0), (280.0, 2, 14.0)])
    world, obs = OracleWorld(stage, spec=SPEC), stage.obs()
    action = torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([2.0, 0.003])
    whole = world.unroll(world.init(obs), action, torch.zeros(2, 6, 0))
    hidden = world.init(obs)
    for t in range(6):
        hidden, seen = world.step(hidden, action[:, t], torch.zeros(2, 0))
        torch.testing.assert_close(seen.ego, whole.ego[:, t])
        torch.testing.assert_close(seen.image, whole.image[:, t], atol=1e-5, rtol=0)
        torch.testing.assert_close(seen.view, whole.view[:, t])


@dataclass
class WithEmptyPlaces:
    """The traffic of a stage of one scene, with places that nobody has among the others."""

    stage: Stage

    def traffic(self, obs: Obs) -> Traffic:
        nobody = (210.0, 1, 0.0)  # just ahead, if he were there
        ego, *others = QUEUE
        wider = Stage([nobody, ego, nobody, *others, nobody])
        valid = torch.tensor([[False, True, False, True, True, True, False]])
        state = replace(wider.state, valid=valid)
        return Traffic(state, wider.drivers, torch.tensor([1]), self.stage.curve)


def test_places_that_nobody_has_cost_and_change_nothing() -> None:
    stage = Stage(QUEUE)
    obs, action = stage.obs(), torch.tensor([[-3.0, 0.0]]).expand(1, 15, 2)
    full, sparse = OracleWorld(stage, spec=SPEC), OracleWorld(WithEmptyPlaces(stage), spec=SPEC)
    assert sparse.init(obs).traffic.state.num_vehicles == len(QUEUE)
    expected = full.unroll(full.init(obs), action, torch.zeros(1, 15, 0))
    found = sparse.unroll(sparse.init(obs), action, torch.zeros(1, 15, 0))
    assert torch.equal(found.image, expected.image) and torch.equal(found.ego, expected.ego)
    assert expected.image.sum() > 100.0


def test_the_car_behind_reacts_to_the_plan() -> None:
    """Braking hard makes the follower brake, too: nothing that was predicted once could know."""
    world, obs = OracleWorld(stage := Stage(QUEUE), spec=SPEC), stage.obs()
    speeds = []
    for accel in (0.0, -5.0):
        hidden = world.init(obs)
        for _ in range(15):
            hidden, _ = world.step(hidden, torch.tensor([[accel, 0.0]]), torch.zeros(1, 0))
        speeds.append(hidden.traffic.state.speed[0, 2].item())
    assert speeds[1] < speeds[0] - 2.0


def test_candidates_do_not_influence_one_another() -> None:
    stage = Stage(QUEUE)
    objective = make_objective(OracleWorld(stage, spec=SPEC), COST, stage.obs())
    noise = torch.randn(1, 4, 10, 2, generator=torch.Generator().manual_seed(0))
    actions = noise * torch.tensor([2.0, 0.001])
    together = objective(actions)
    for row in range(4):
        torch.testing.assert_close(objective(actions[:, row : row + 1])[:, 0], together[:, row])
    assert (stage.state.x == torch.tensor(QUEUE)[:, 0]).all()  # nothing has moved but in thought


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gradient", "cem"])
def test_planners_drive_by_the_simulator_without_touching_anybody(kind: str) -> None:
    """Three seconds behind a much slower car: doing nothing would crash."""
    start = [(200.0, 1, 18.0), (220.0, 1, 8.0), (170.0, 1, 18.0), (205.0, 0, 18.0)]
    crashed = {}
    for plans in (False, True):
        stage = Stage(start)
        world = OracleWorld(stage, spec=SPEC)
        options = {"horizon": 15, "num_knots": 3}
        planner = RecedingHorizon(
            GradientPlanner(world, COST, num_iterations=6, **options)
            if kind == "gradient"
            else OnlinePlanner(world, COST, partial(cem, num_iterations=3, num_samples=16), **options),
            replan_every=5,
        )
        crashed[plans] = False
        for _ in range(30):
            action = planner.plan(stage.obs()).action[:, 0] if plans else torch.zeros(1, 2)
            stage.drive(action)
            size = torch.tensor([5.0, 2.0]).expand(1, 4, 2)
            box = torch.cat([stage.poses(), size], dim=-1)
            crashed[plans] |= bool(boxes_overlap(box[:, :1], box[:, 1:]).any())
    assert crashed == {False: True, True: False}


@pytest.mark.slow
def test_a_plan_allows_for_a_car_that_will_have_to_brake() -> None:
    """All are as fast as the ego; what lies ahead of the leader cannot be seen yet, only be simulated."""
    start = [(200.0, 1, 18.0), (226.0, 1, 18.0), *((270.0, lane, 0.0) for lane in range(3))]
    speeds = {}
    for is_wrecked in (False, True):
        stage = Stage(start)
        wreck = stage.state.x == 270.0
        stage.state = replace(stage.state, crashed=wreck, valid=~wreck | is_wrecked)
        planner = GradientPlanner(OracleWorld(stage, spec=SPEC), COST, horizon=25, num_iterations=10)
        plan = planner.plan(stage.obs())
        speeds[is_wrecked] = plan.ego[0, -1, 3].item()
    assert speeds[True] < speeds[False] - 2.0
