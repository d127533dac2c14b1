"""Traffic that comes and goes: scenes of a scenario, from step to step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int

from worldmodel.scene.traffic._car import STATE
from worldmodel.scene.traffic.advance import advance
from worldmodel.scene.traffic.inflow import Inflow
from worldmodel.scene.traffic.population import Population
from worldmodel.scene.traffic.road import LaneEnd, TrafficRoad
from worldmodel.scene.traffic.rule import CHANGE_DELAY
from worldmodel.scene.traffic.state import Drivers, TrafficState

State = TypeVar("State", TrafficState, Drivers)
SPARE = 1.5
"""Room for so many times the vehicles that a scenario starts with or lets in."""
LEAST_SPEED = 1.0
"""A vehicle that enters a jam is no slower [m/s]."""
MIN_DRIFT = 0.5
"""Whoever moves sideways faster is changing lanes [m/s]."""


@dataclass(frozen=True)
class Scenario:
    """A road and who drives there.

    Attributes:
        name: short; begins the names of recordings.
        road: its lanes.
        population: of drivers.
        density: at the start [vehicles per km and lane].
        inflow: at the start of every lane that is not an exit [vehicles per hour]; none on a ring.
        dt: [s]
    """

    name: str
    road: TrafficRoad
    population: Population = field(default_factory=Population)
    density: float = 15.0
    inflow: float = 1200.0
    dt: float = 0.1

    @property
    def exits(self) -> tuple[int, ...]:
        """Lanes by which one can leave the road."""
        return tuple(m for m, lane in enumerate(self.road.lanes) if lane.kind == LaneEnd.EXIT)

    @property
    def interval(self) -> float:
        """Mean time between the vehicles that enter a lane [s]."""
        return math.inf if self.road.is_ring or self.inflow <= 0 else 3600.0 / self.inflow

    @property
    def capacity(self) -> int:
        """Rows for vehicles in a scene."""
        table = self.road.table
        kilometres = (table["end"] - table["start"]).sum() / 1000.0
        slow = min(one.desired_speed.mean for one in self.population.types) / 2
        density = max(self.density, 0.0 if self.road.is_ring else self.inflow / 3.6 / slow)
        return int(np.ceil(SPARE * kilometres * density)) + 4


class Simulation:
    """`num_scenes` scenes of a scenario, each with random numbers of its own; changed by its methods.

    Drivers of these rules do collide now and then, when two of them change to the same spot. Nothing can be
    learnt from that, so they are taken off the road at once, and counted.

    Attributes:
        state: of all vehicles, in the road's coordinates, float64.
        drivers: theirs.
        ids: number of each vehicle in its scene, never used twice; meaningless where nobody is.
        num_crashed: vehicles taken off the road after a collision, by scene.

    Example:
        >>> scenario = Scenario("two_lanes", TrafficRoad.straight(num_lanes=2, length=500.0))
        >>> simulation = Simulation(scenario, num_scenes=3)
        >>> simulation.fill(seeds=[0, 1, 2])
        >>> simulation.step()
        >>> bool(simulation.state.valid.any(1).all())
        True
    """

    def __init__(self, scenario: Scenario, *, num_scenes: int, capacity: int | None = None) -> None:
        self.scenario = scenario
        zeros = torch.zeros(num_scenes, capacity or scenario.capacity, dtype=torch.float64)
        centre = torch.from_numpy(scenario.road.centre)
        self.state = TrafficState.on_lanes(zeros, zeros.long(), zeros.clone(), centre=centre)
        self.state = _owned(self.state)
        self.state.valid[:] = False
        self.drivers = _owned(Drivers.alike(zeros.clone()))
        self.ids = np.zeros(zeros.shape, dtype=np.int64)
        self._next_id = np.zeros(num_scenes, dtype=np.int64)
        self._generators = [np.random.default_rng() for _ in range(num_scenes)]
        self._inflow = Inflow(
            scenario.population,
            num_scenes=num_scenes,
            entries=np.array([lane.kind != LaneEnd.EXIT for lane in scenario.road.lanes]),
            interval=scenario.interval,
            exits=scenario.exits,
        )
        self.num_crashed = np.zeros(num_scenes, dtype=np.int64)

    def fill(self, *, seeds: Sequence[int]) -> None:
        """Starts every scene with traffic of the scenario's density, at the speeds that it allows."""
        for scene, seed in enumerate(seeds):
            rng = self._begin(scene, seed)
            for m in range(self.scenario.road.num_lanes):
                self._fill_lane(scene, m, rng)

    def put(
        self,
        scene: int,
        pose: Float[np.ndarray, "N 4"],
        size: Float[np.ndarray, "N 2"],
        *,
        ids: Int[np.ndarray, " N"],
        seed: int | Sequence[int],
    ) -> Int[np.ndarray, " N"]:
        """Starts a scene with vehicles that are there, by drivers unknown; returns their rows.

        Whoever moves sideways to the next lane is taken to be changing to it, and nobody wants to be slower
        than he is.

        Args:
            scene: which one; what was in it is gone.
            pose: `x, y, heading, speed` in the road's coordinates.
            size: length, width [m].
            ids: their numbers; whoever enters later has a larger one.
            seed: of the drivers and of everything after.
        """
        rng = self._begin(scene, seed)
        columns = self.scenario.population.draw(rng, len(pose), exits=self.scenario.exits)
        columns["length"], columns["width"] = size.T.astype(np.float64)
        columns["desired_speed"] = np.maximum(columns["desired_speed"], pose[:, 3])
        table = self.scenario.road.table
        beyond = np.maximum(pose[:, :1] - table["end"], 0.0) + np.maximum(table["start"] - pose[:, :1], 0.0)
        lane = (np.abs(pose[:, 1:2] - table["centre"]) + beyond).argmin(axis=1)
        aside, drift = pose[:, 1] - table["centre"][lane], pose[:, 3] * np.sin(pose[:, 2])
        moves = (np.abs(drift) > MIN_DRIFT) & (aside * drift > 0)
        target = np.clip(lane - np.sign(drift) * moves, 0, len(table) - 1).astype(np.int64)
        rows = self._add(scene, pose, columns, lane=lane, target=target)
        self.ids[scene, rows], self._next_id[scene] = ids, ids.max(initial=-1) + 1
        return rows

    def step(
        self,
        scenes: Int[np.ndarray, " N"] | None = None,
        *,
        driven: Int[np.ndarray, "N D"] | None = None,
        driven_to: Float[np.ndarray, "N D 4"] | None = None,
    ) -> None:
        """Moves scenes (all, by default) by `dt`; then some leave the road, and others enter it.

        Who has crashed is still there afterwards, and gone after the next step.

        Args:
            driven: rows of vehicles that somebody else drives.
            driven_to: their `x, y, heading, speed` after the step.
        """
        chosen = np.arange(len(self.ids)) if scenes is None else scenes
        self._clear(chosen, driven)
        index, dt = torch.from_numpy(chosen), self.scenario.dt
        given = given_to = None
        if driven is not None and driven_to is not None:
            given, given_to = torch.from_numpy(driven), torch.from_numpy(driven_to[:, None])
        is_all = scenes is None
        moved = advance(
            self.state if is_all else self.state[index],
            self.drivers if is_all else self.drivers[index],
            self.scenario.road,
            dt=dt,
            noise=self._noise(chosen),
            driven=given,
            driven_to=given_to,
        )
        for one in fields(moved):
            getattr(self.state, one.name)[index] = getattr(moved, one.name)
        self._leave(chosen, driven)
        self._enter(chosen)

    # --- Coming and going ---------------------------------------------------------------------------------

    def _begin(self, scene: int, seed: int | Sequence[int]) -> np.random.Generator:
        rng = self._generators[scene] = np.random.default_rng(seed)
        self.state.valid[scene], self._next_id[scene], self.num_crashed[scene] = False, 0, 0
        self._inflow.begin(scene, rng)
        return rng

    def _fill_lane(self, scene: int, m: int, rng: np.random.Generator) -> None:
        """Puts vehicles on a lane, all at the speed at which they have the distances that they want."""
        row = self.scenario.road.table[m]
        length = float(row["end"] - row["start"])
        columns = self.scenario.population.draw(
            rng, int(self.scenario.density * length / 1000.0), exits=self.scenario.exits
        )
        bodies = (columns["length"] + np.roll(columns["length"], -1)) / 2 + columns["gap"]
        fits = np.cumsum(bodies) < length - 1.0
        columns, bodies = {name: value[fits] for name, value in columns.items()}, bodies[fits]
        if not len(bodies):
            return
        free = length - bodies.sum()
        speed = min(free / columns["headway"].sum(), columns["desired_speed"].min(), float(row["limit"]))
        left = max(free - speed * columns["headway"].sum(), 0.0)
        spaces = bodies + speed * columns["headway"] + left * rng.dirichlet(np.full(len(bodies), 4.0))
        x = row["start"] + np.cumsum(spaces) - spaces
        pose = np.stack([x, 0 * x + row["centre"], 0 * x, 0 * x + speed], axis=1)
        lane = np.full(len(x), m)
        self._add(scene, pose, columns, lane=lane, target=lane)

    def _add(
        self,
        scene: int,
        pose: np.ndarray,
        columns: dict[str, np.ndarray],
        *,
        lane: np.ndarray,
        target: np.ndarray,
    ) -> np.ndarray:
        """Puts vehicles into free rows of a scene, which it returns."""
        timer = self._generators[scene].uniform(0.0, CHANGE_DELAY, len(pose))
        where = np.full(len(pose), scene)
        rows, fits = self._free_rows(where)
        if not fits.all():
            free = int((~self.state.valid[scene]).sum())
            raise ValueError(f"{len(pose)} vehicles for {free} free rows; raise the capacity")
        self._write(where, rows, pose, columns={**columns, "timer": timer}, lane=lane, target=target)
        return rows

    def _free_rows(self, scene: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns a row for each vehicle of the scenes, which are sorted, and whether there is one left."""
        taken = self.state.valid.numpy()[scene]  # (P, V)
        rank = np.arange(len(scene)) - np.searchsorted(scene, scene)
        order = np.argsort(taken, axis=1, kind="stable")
        row = order[np.arange(len(scene)), np.minimum(rank, taken.shape[1] - 1)]
        return row, rank < (~taken).sum(axis=1)

    def _write(
        self,
        scene: np.ndarray,
        row: np.ndarray,
        pose: np.ndarray,
        *,
        columns: dict[str, np.ndarray],
        lane: np.ndarray,
        target: np.ndarray,
    ) -> None:
        """Writes vehicles and drivers, and numbers them; scenes are sorted."""
        x, y, heading, speed = pose.T
        here = {"x": x, "y": y, "heading": heading, "speed": speed, "lane": lane, "target": target}
        here |= {"noise": 0.0 * x, "valid": np.ones(len(x), bool), "crashed": np.zeros(len(x), bool)}
        for name, value in {**columns, **here}.items():
            part = self.state if name in STATE else self.drivers
            getattr(part, name).numpy()[scene, row] = value
        self.ids[scene, row] = self._next_id[scene] + np.arange(len(scene)) - np.searchsorted(scene, scene)
        np.add.at(self._next_id, scene, 1)

    def _noise(self, scenes: np.ndarray) -> torch.Tensor | None:
        if not bool(self.drivers.noise_std.any()):
            return None
        V = self.state.num_vehicles
        drawn = [self._generators[scene].standard_normal((1, V)) for scene in scenes.tolist()]
        return torch.from_numpy(np.stack(drawn))

    def _clear(self, scenes: np.ndarray, driven: np.ndarray | None) -> None:
        """Takes those off the road who have driven into one another."""
        index = torch.from_numpy(scenes)
        gone = self.state.valid[index] & self.state.crashed[index]
        if driven is not None:
            gone.scatter_(1, torch.from_numpy(driven), False)
        self.num_crashed[scenes] += gone.sum(1).numpy()
        self.state.valid[index] &= ~gone

    def _leave(self, scenes: np.ndarray, driven: np.ndarray | None) -> None:
        """Takes those off the road who have driven out of it."""
        if self.scenario.road.is_ring:
            return
        index = torch.from_numpy(scenes)
        state, leave_by = self.state[index], self.drivers.exit[index]
        end = torch.from_numpy(self.scenario.road.table["end"].copy())[state.lane]
        gone = (state.x > self.scenario.road.length) | ((state.lane == leave_by) & (state.x > end))
        if driven is not None:
            gone.scatter_(1, torch.from_numpy(driven), False)
        self.state.valid[index] &= ~gone

    def _enter(self, scenes: np.ndarray) -> None:
        """Lets in whoever is due and finds enough room."""
        scene, lane = self._inflow.wait(scenes, self.scenario.dt)
        if not len(scene):
            return
        columns = self._inflow.first(scene, lane)
        speed = self._entry_speed(scene, lane, columns)
        row, fits = self._free_rows(scene)
        enters = fits & (speed > 0.0)
        scene, lane, row, speed = (part[enters] for part in (scene, lane, row, speed))
        table = self.scenario.road.table[lane]
        pose = np.stack([table["start"], table["centre"], 0.0 * speed, speed], axis=1)
        columns = {name: value[enters] for name, value in columns.items()}
        self._write(scene, row, pose, columns=columns, lane=lane, target=lane)
        self._inflow.leave(scene, lane, self._generators)

    def _entry_speed(self, scene: np.ndarray, lane: np.ndarray, driver: dict[str, np.ndarray]) -> np.ndarray:
        """Returns how fast each can enter a lane; 0 where there is no room [m/s].

        Nobody enters closer to the one ahead than he would follow him. Who is changing to the lane counts.
        """
        table, state = self.scenario.road.table[lane], self.state
        x, y, valid, speed, target, length = (
            part.numpy()[scene]
            for part in (state.x, state.y, state.valid, state.speed, state.target, self.drivers.length)
        )  # (P, V)
        aside = np.abs(y - table["centre"][:, None])
        here = (aside < table["half_width"][:, None] + 1.0) | (target == lane[:, None])
        near = valid & here & (x >= table["start"][:, None] - 10.0)
        rear = np.where(near, x - length / 2, np.inf)
        first = rear.argmin(axis=1)[:, None]
        rear, ahead = (np.take_along_axis(part, first, axis=1)[:, 0] for part in (rear, speed))
        wanted = np.minimum(driver["desired_speed"], table["limit"])
        wanted = np.where(np.isfinite(rear), np.minimum(wanted, np.maximum(ahead, 0.0) + 2.0), wanted)
        room = rear - table["start"] - driver["length"] / 2 - driver["gap"]
        enough = np.minimum(wanted, room / driver["headway"])
        follows = enough >= np.minimum(wanted, np.maximum(ahead, LEAST_SPEED))
        return np.where((room >= 0.0) & (enough >= LEAST_SPEED) & follows, enough, 0.0)


def _owned(part: State) -> State:
    """A copy that may be written to."""
    return type(part)(**{one.name: getattr(part, one.name).clone() for one in fields(part)})
