"""highway-env's scenes in our units and axes: any of its scenarios, any of its vehicles driven by us.

highway-env decides who is where and how everybody drives. Of its own interface only the road is used: its
observations, rewards and terminations are replaced, and so are three things that would mislead:

- A car driven by continuous actions has no `target_speed`. IDM drivers who consider cutting in in front of
  it then expect it to brake without bounds, and never do. `Ego` has one.
- Intersections change the parameters of a driver class, for all scenarios of the process. `Driver` and
  `YieldingDriver` are classes of our own, so that a scene is the same whatever ran before.
- At 10 Hz an intersection would let in ten times the traffic. Vehicles enter once a second, as there.

Collisions of the egos are judged by the protocol, as in every environment of ours; highway-env, which would
push the cars apart, leaves egos out.

**Actions.** highway-env moves a car of length `L` as a bicycle with steering angle `delta`, explicit Euler:

    beta = atan(tan(delta) / 2),  x, y += v (cos, sin)(heading + beta) dt,  heading += v sin(beta) / (L/2) dt

so the curvature of its path is `2 sin(beta) / L`, and `delta = atan(2 tan(asin(curvature L / 2)))`. With its
range of 45 degrees and cars of 5 m, 0.179 /m can be reached: every curvature of our action space. So can
every acceleration of it (highway-env's own action stops at 5 m/s^2); only beyond 40 m/s, forwards or
backwards, the car is slowed by what it exceeds that per second.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import highway_env
import numpy as np
from highway_env.envs.intersection_env import IntersectionEnv
from highway_env.vehicle.behavior import IDMVehicle
from highway_env.vehicle.kinematics import Vehicle
from highway_env.vehicle.objects import Obstacle, RoadObject
from jaxtyping import Bool, Float, Int

from envs._highway_road import HighwayRoad, mapped
from worldmodel.scene import Recording

DT = 0.1
"""Time between frames [s]; simulated and decided at 10 Hz."""
MAX_STEERING = np.pi / 4
"""highway-env's range of steering angles [rad]."""
SPAWN_EVERY = 10
"""Frames between vehicles that enter an intersection."""
DRIVER = "envs._highway.Driver"
SCENARIOS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "highway": ("highway-v0", {"vehicles_count": 30}),
    "merge": ("merge-v1", {}),
    "merge_generic": ("merge-generic-v1", {}),
    "exit": ("exit-v1", {}),
    "two_way": ("two-way-v0", {}),
    "roundabout": ("roundabout-v1", {}),
    "roundabout_generic": ("roundabout-generic-v1", {}),
    "intersection": ("intersection-v2", {"other_vehicles_type": "envs._highway.YieldingDriver"}),
    "racetrack": ("racetrack-v1", {"action": {"type": "ContinuousAction"}}),
    "racetrack_large": ("racetrack-large-v1", {"action": {"type": "ContinuousAction"}}),
    "racetrack_oval": ("racetrack-oval-v1", {"action": {"type": "ContinuousAction"}}),
    "u_turn": ("u-turn-v1", {}),
    "lane_keeping": ("lane-keeping-v0", {}),
}
"""Name -> highway-env's id and what differs from its configuration. Where a scenario has a version whose
drivers see across the ends of lanes, it is that."""
OURS = {
    "simulation_frequency": round(1 / DT),
    "policy_frequency": round(1 / DT),
    "observation": {"type": "Kinematics", "vehicles_count": 1, "features": ["x"], "normalize": False},
}
"""Configuration that is not the user's to choose."""


class Driver(IDMVehicle):
    """highway-env's IDM and MOBIL driver, as it is before any intersection was made."""

    DISTANCE_WANTED = 5.0 + Vehicle.LENGTH
    COMFORT_ACC_MAX = 3.0
    COMFORT_ACC_MIN = -5.0


class YieldingDriver(IDMVehicle):
    """The same at intersections, which set its parameters."""


class Ego(Vehicle):
    """A car that is driven by us; the others think that it wants to keep its speed, at least.

    Attributes:
        desired_speed: its driver's at the hand-over [m/s].
    """

    desired_speed: float = 0.0

    @property
    def target_speed(self) -> float:
        """What IDM and MOBIL expect of it: with the plain `Vehicle`'s 0, nobody would ever cut in."""
        return max(self.desired_speed, self.speed)

    def predict_trajectory_constant_speed(self, times: np.ndarray) -> tuple[list[np.ndarray], list[float]]:
        """Returns where it is taken to be by drivers who may have to yield; as the plain `Vehicle`'s.

        Which copies the whole road for it.
        """
        beta = np.arctan(np.tan(self.action["steering"]) / 2)
        rate = self.speed * np.sin(beta) / (self.LENGTH / 2)
        steps = np.diff(np.concatenate([[0.0], times]))
        heading = self.heading + rate * np.cumsum(steps)
        course = np.concatenate([[self.heading], heading[:-1]]) + beta
        moves = self.speed * np.stack([np.cos(course), np.sin(course)], axis=1) * steps[:, None]
        return list(self.position + np.cumsum(moves, axis=0)), heading.tolist()


def steering_of(curvature: float, length: float = Vehicle.LENGTH) -> float:
    """Returns highway-env's steering angle for a curvature to the left [1/m], clipped to its range [rad]."""
    beta = np.arcsin(np.clip(-curvature * length / 2, -1.0, 1.0))
    return float(np.clip(np.arctan(2 * np.tan(beta)), -MAX_STEERING, MAX_STEERING))


def curvature_of(steering: float, length: float = Vehicle.LENGTH) -> float:
    """Returns the curvature to the left of a path driven with highway-env's steering angle [1/m]."""
    return float(-np.sin(np.arctan(np.tan(steering) / 2)) * 2 / length)


@dataclass(frozen=True)
class Scenario:
    """A scenario of highway-env.

    Attributes:
        name: of `SCENARIOS`.
        config: what differs from highway-env's configuration, as `{"vehicles_density": 1.5}`.

    Raises:
        ValueError: no such scenario, no such configuration, or one that is not to be chosen.
    """

    name: str = "highway"
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in SCENARIOS:
            raise ValueError(f"scenario {self.name!r}, expected one of {', '.join(SCENARIOS)}")
        if fixed := sorted({*OURS, "action", "other_vehicles_type"} & set(self.config)):
            raise ValueError(
                f"config sets {', '.join(fixed)}, which are ours here (10 Hz, (accel, curvature), our "
                "rasters); leave them out"
            )

    def describe(self, seed: int) -> str:
        """Returns what a recording of the scene says of its source, as JSON."""
        return json.dumps(
            {
                "simulator": f"highway-env {highway_env.__version__} (MIT licence)",
                "scenario": self.name,
                "config": dict(self.config),
                "seed": seed,
            }
        )

    @classmethod
    def parse(cls, recording: Recording) -> tuple["Scenario", int]:
        """Returns the scenario and seed of a recording.

        Raises:
            ValueError: the recording was not made by highway-env.
        """
        try:
            found = json.loads(recording.source)
            return cls(found["scenario"], found["config"]), int(found["seed"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"recording {recording.name!r} says nothing of a highway-env scene; give the store that "
                "`worldmodel prepare source=highway` wrote, or replay it (env=replay)"
            ) from error

    def make(self) -> gymnasium.Env:
        """Returns highway-env's environment.

        Raises:
            ValueError: it knows no such configuration.
        """
        name, changed = SCENARIOS[self.name]
        config = {"other_vehicles_type": DRIVER, **changed, **self.config, **OURS}
        env: Any = gymnasium.make(name, config=config, disable_env_checker=True).unwrapped
        known = type(env).default_config()
        if unknown := sorted(set(self.config) - set(known)):
            raise ValueError(
                f"scenario {self.name!r} has no {', '.join(unknown)}; it has {', '.join(sorted(known))}"
            )
        return env


@dataclass(frozen=True)
class Moment:
    """Who is where in one frame of a scene.

    Attributes:
        number: of the vehicle, in the order of their first appearance; standing obstacles have one, too.
        state: x, y, heading, speed, ours [m, rad, m/s].
        size: length, width [m].
        crashed: whether it has collided.
        is_driven: whether it has a driver; obstacles have none.
    """

    number: Int[np.ndarray, " V"]
    state: Float[np.ndarray, "V 4"]
    size: Float[np.ndarray, "V 2"]
    crashed: Bool[np.ndarray, " V"]
    is_driven: Bool[np.ndarray, " V"]

    def state_of(self, number: int) -> Float[np.ndarray, " 4"]:
        """Returns the state of one vehicle."""
        return np.asarray(self.state[self.number == number][0])


class Simulation:
    """One scene at a time.

    Example:
        >>> simulation = Simulation()
        >>> simulation.start(Scenario("merge"), seed=3)
        >>> simulation.step({})
        >>> len(simulation.moment().number)  # with the obstacle at the end of the ramp
        6
    """

    def __init__(self) -> None:
        self._envs: dict[str, Any] = {}
        self._known: list[RoadObject] = []
        self._number: dict[int, int] = {}

    def start(self, scenario: Scenario, *, seed: int) -> None:
        """Makes the scene of that seed, in which everybody drives for himself."""
        key = scenario.describe(0)
        if key not in self._envs:
            self._envs[key] = scenario.make()
        self._env = self._envs[key]
        self._env.reset(seed=seed)
        self.own = self._env.road.vehicles.index(self._env.vehicle)
        """The number of the vehicle that highway-env would have driven."""
        vehicles = self._env.road.vehicles
        for index, vehicle in enumerate(vehicles):
            if vehicle in self._env.controlled_vehicles:
                vehicles[index] = _driver(vehicle, self._env.config["other_vehicles_type"])
            elif type(vehicle) is IDMVehicle:  # racetracks name the class themselves
                vehicle.__class__ = Driver
        self._env.controlled_vehicles = []
        self._frame, self._known, self._number = 0, [], {}
        self._meet()
        self.road: HighwayRoad = mapped(self._env.road.network)

    def moment(self) -> Moment:
        """Returns who is where now."""
        things = self._things()
        state = np.array([[*one.position, one.heading, one.speed] for one in things])
        return Moment(
            number=np.array([self._number[id(one)] for one in things]),
            state=state * np.array([1.0, -1.0, -1.0, 1.0]),
            size=np.array([[one.LENGTH, one.WIDTH] for one in things]),
            crashed=np.array([one.crashed for one in things]),
            is_driven=np.array([isinstance(one, Vehicle) for one in things]),
        )

    def hand_over(self, number: int) -> None:
        """Puts us in the place of a vehicle's driver."""
        vehicle = self._known[number]
        ego = Ego(vehicle.road, vehicle.position, vehicle.heading, vehicle.speed)
        ego.desired_speed = float(vehicle.target_speed)
        ego.collidable = False
        vehicles = self._env.road.vehicles
        vehicles[vehicles.index(vehicle)] = self._known[number] = ego
        self._env.controlled_vehicles.append(ego)  # those are never cleared away
        del self._number[id(vehicle)]
        self._number[id(ego)] = number

    def step(self, actions: Mapping[int, Sequence[float]]) -> dict[int, tuple[float, float]]:
        """Moves everybody by `DT`; egos by their `(accel, curvature)`. Returns the latter as executed."""
        for number, (accel, curvature) in actions.items():
            ego = self._known[number]
            ego.act({"acceleration": float(accel), "steering": steering_of(curvature, ego.LENGTH)})
        env = self._env
        env.road.act()
        env.road.step(DT)
        self._frame += 1
        if isinstance(env, IntersectionEnv):
            env._clear_vehicles()
            if self._frame % SPAWN_EVERY == 0:
                env._spawn_vehicle(spawn_probability=env.config["spawn_probability"])
        self._meet()
        executed = {number: self._known[number].action for number in actions}
        return {
            number: (one["acceleration"], curvature_of(one["steering"], self._known[number].LENGTH))
            for number, one in executed.items()
        }

    def lane_heading(self, number: int) -> float:
        """Returns the direction of the lane that a vehicle is on, ours [rad]."""
        vehicle = self._known[number]
        return -float(vehicle.lane.heading_at(vehicle.lane.local_coordinates(vehicle.position)[0]))

    def remaining(self, number: int) -> float:
        """Returns the way left to the end of the road, infinite where the lane does not lead there [m]."""
        vehicle = self._known[number]
        end = self.road.ends.get(vehicle.lane_index, np.inf)
        return float(end - vehicle.lane.local_coordinates(vehicle.position)[0])

    def _things(self) -> list[Any]:
        road = self._env.road
        return [*road.vehicles, *(one for one in road.objects if isinstance(one, Obstacle))]

    def _meet(self) -> None:
        """Numbers who is new."""
        for one in self._things():
            if id(one) not in self._number:
                self._number[id(one)] = len(self._known)
                self._known.append(one)


def _driver(vehicle: Vehicle, path: str) -> IDMVehicle:
    """highway-env's driver in the place of one that waits for actions."""
    kind = YieldingDriver if path.endswith(YieldingDriver.__name__) else Driver
    return kind(
        vehicle.road,
        vehicle.position,
        heading=vehicle.heading,
        speed=vehicle.speed,
        target_lane_index=getattr(vehicle, "target_lane_index", None),
        target_speed=getattr(vehicle, "target_speed", None),
        route=getattr(vehicle, "route", None),
    )
