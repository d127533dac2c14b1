"""highway-env behind our observation, action and info: traffic that reacts to us.

Any scenario of highway-env 1.12 (`scenario="highway"`, `"merge"`, `"roundabout"`, ...), with the interface of
`envs.replay`: the same observations, rasters drawn by `worldmodel.scene`, the same action `(accel [m/s^2],
curvature [1/m])`, the same protocol and info. An episode is a scene (its number is the seed) that runs for
the protocol's history by itself; then one of its drivers is replaced by us.

**Reward**: metres of progress along the lane in this step, minus `CRASH_COST` for a collision or for leaving
the road. `terminated` means collision or off-road; `truncated` that the time is over, or the road.

`state` is the vehicle's own in highway-env: its position moves with the speed and heading of the frame before
(explicit Euler), along the velocity of its centre, which points a slip angle to the side of the heading where
it steers. The exact conversion of actions, and where highway-env is corrected, are in `envs._highway`.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from envs._core import RoadCore
from envs._highway import DT, Moment, Scenario, Simulation
from envs._highway_record import NUM_SEEDS, recorded, seeds_of, simulate
from envs._vector import RoadEnv, RoadOptions, RoadVectorEnv
from worldmodel.evaluation.episode import Outcome
from worldmodel.evaluation.protocol import V1, Episode, Protocol
from worldmodel.evaluation.truth import Others
from worldmodel.protocols import Knowledge
from worldmodel.scene import SPEED, Recording, Renderer, RoadField

__all__ = ["HighwayCore", "HighwayEnv", "HighwayVectorEnv", "continuing", "simulate"]

REPRODUCED = 0.25
"""How far a scene may be from its recording at the hand-over [m]."""


@dataclass(frozen=True)
class Start:
    """What an episode begins with.

    Attributes:
        scenario: of the scene.
        seed: of the scene.
        frame: of the hand-over.
        last: at which the episode ends at the latest.
        vehicle: number of the one that is handed over, its row in the recording; None: highway-env's own, and
            those closest to it.
        recording: index of the recording it must reproduce, None for a scene that was never recorded.
        human_distance: what the driver covers who is replaced, where it is known [m].
    """

    scenario: Scenario
    seed: int
    frame: int
    last: int
    vehicle: int | None = None
    recording: int | None = None
    human_distance: float = 0.0


class HighwayCore(RoadCore):
    """Scenes with `num_controlled` egos each; the slots of a scene are adjacent and end together.

    Args:
        scenario: of scenes that are not recorded.
        duration: of their episodes [s].
        protocol: how they are judged, and for how long they run before the hand-over.
        num_slots: egos in all.
        num_controlled: egos in each scene.
        recordings: of scenes that are to be continued from `episodes`; none: any seed of `scenario`.
        episodes: what is handed over in `recordings`.

    Raises:
        ValueError: slots that make no whole scenes, recordings that are not highway-env's.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        duration: float,
        protocol: Protocol,
        num_slots: int,
        num_controlled: int = 1,
        recordings: Sequence[Recording] = (),
        episodes: Sequence[Episode] = (),
    ) -> None:
        if num_controlled < 1 or num_slots % num_controlled:
            raise ValueError(
                f"num_envs={num_slots} egos make no scenes of num_controlled={num_controlled}; choose a "
                "multiple"
            )
        self.scenario, self.num_steps = scenario, round(duration / DT)
        self.num_controlled = num_controlled
        self.recordings, self.episodes = tuple(recordings), tuple(episodes)
        self._sources = tuple(Scenario.parse(one) for one in self.recordings)
        self.simulations = [Simulation() for _ in range(num_slots // num_controlled)]
        super().__init__(
            num_episodes=len(episodes) or NUM_SEEDS,
            num_history=round(protocol.history / DT),
            protocol=protocol,
            num_slots=num_slots,
            dt=DT,
        )
        # The newest frames of each scene.
        self.moments: list[deque[Moment]] = [deque(maxlen=self.num_history) for _ in self.simulations]

    def scene_of(self, slots: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
        """Returns the number of the scene that each slot is in."""
        return slots // self.num_controlled

    def step(self, slots: np.ndarray, action: np.ndarray) -> None:
        """As the base; when an ego of a scene is done, its scene is over for all of them."""
        super().step(slots, action)
        if self.num_controlled > 1:
            is_over = (self.outcome != Outcome.RUNNING).reshape(-1, self.num_controlled)
            left = is_over.any(axis=1, keepdims=True) & ~is_over
            ended = slots[left.ravel()[slots]]
            self.last[ended] = self.frame[ended]
            self._reach_end(ended)

    def history(self, slots: np.ndarray, num_frames: int) -> Float[np.ndarray, "N K 4"]:
        """Returns the last `num_frames` states up to the hand-over."""
        states = [
            [one.state_of(int(self.vehicle[slot])) for one in self._newest(slot, num_frames)]
            for slot in slots.tolist()
        ]
        return np.array(states)

    def _hand_over(self, slots: np.ndarray) -> None:
        for scene in np.unique(self.scene_of(slots)).tolist():
            mine = np.arange(scene * self.num_controlled, (scene + 1) * self.num_controlled)
            if not (np.isin(mine, slots).all() and (self.episode_id[mine] == self.episode_id[mine[0]]).all()):
                raise ValueError(
                    f"slots {mine.tolist()} share a scene; reset them together, with the same episode"
                )
            self._begin(scene, mine, int(self.episode_id[mine[0]]))

    def _begin(self, scene: int, slots: np.ndarray, episode: int) -> None:
        """Runs a scene up to the hand-over and replaces the drivers of its egos."""
        start, moments = self._start(episode), self.moments[scene]
        simulation = self.simulations[scene]
        for seed in seeds_of(start.seed):
            moments.clear()
            simulation.start(start.scenario, seed=seed)
            moments.append(simulation.moment())
            for _ in range(start.frame):
                simulation.step({})
                moments.append(simulation.moment())
            numbers = self._choose(start, simulation, moments[-1])
            if numbers is not None:
                break
        else:
            raise ValueError(
                f"no scene like {start.seed} of {start.scenario} has {len(slots)} vehicles that reach the "
                "hand-over unharmed; ask for fewer, or for less dense traffic"
            )
        for slot, number in zip(slots.tolist(), numbers, strict=True):
            simulation.hand_over(number)
            self.recording[slot] = start.recording or 0
            self.vehicle[slot], self.frame[slot], self.last[slot] = number, start.frame, start.last
            self.human_distance[slot] = start.human_distance
            self.state[slot] = moments[-1].state_of(number)
            self.size[slot] = moments[-1].size[moments[-1].number == number][0]

    def _start(self, episode: int) -> Start:
        if not self.episodes:
            frame = self.num_history - 1
            return Start(self.scenario, episode, frame, frame + self.num_steps)
        one = self.episodes[episode]
        scenario, seed = self._sources[one.recording]
        return Start(scenario, seed, one.start, one.last, one.vehicle, one.recording, one.human_distance)

    def _choose(self, start: Start, simulation: Simulation, now: Moment) -> list[int] | None:
        """The vehicles to be handed over, which have been there throughout; None if they cannot be."""
        if start.recording is not None and start.vehicle is not None:
            self._check(start, now)
            return [start.vehicle]
        earlier = [set(one.number.tolist()) for one in self.moments[self.simulations.index(simulation)]]
        able = [
            number
            for number in now.number[now.is_driven & ~now.crashed].tolist()
            if all(number in one for one in earlier)
        ]
        if simulation.own not in able:
            return None
        own = now.state_of(simulation.own)
        able.sort(key=lambda number: float(np.hypot(*(now.state_of(number) - own)[:2])))
        return able[: self.num_controlled] if len(able) >= self.num_controlled else None

    def _check(self, start: Start, now: Moment) -> None:
        """Checks that the scene is the recorded one."""
        recording, vehicle = self.recordings[start.recording or 0], start.vehicle or 0
        miss = np.hypot(*(now.state_of(vehicle) - recording.tracks.state[vehicle, start.frame])[:2])
        if not miss < REPRODUCED:
            raise ValueError(
                f"scene {recording.name!r} is {miss:.3g} m from its recording at the hand-over; prepare the "
                "store with the highway-env that is installed"
            )

    def _move(self, slots: np.ndarray, wanted: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        executed = np.empty_like(wanted)
        for scene in np.unique(self.scene_of(slots)).tolist():
            mine = np.flatnonzero(self.scene_of(slots) == scene)
            simulation, numbers = self.simulations[scene], self.vehicle[slots[mine]].tolist()
            done = simulation.step(dict(zip(numbers, wanted[mine].tolist(), strict=True)))
            self.moments[scene].append(simulation.moment())
            for index, number in zip(mine, numbers, strict=True):
                slot = slots[index]
                state = self.moments[scene][-1].state_of(number)
                heading = simulation.lane_heading(number)
                moved = state[:2] - self.state[slot, :2]
                self.distance[slot] += moved @ np.array([np.cos(heading), np.sin(heading)])
                self.state[slot], executed[index] = state, done[number]
        return executed

    def others(self, slots: np.ndarray) -> Others:
        now = [self.moments[scene][-1] for scene in self.scene_of(slots).tolist()]
        shape = (len(slots), max(len(one.number) for one in now))
        found = Others(
            box=np.zeros((*shape, 5)),
            speed=np.zeros(shape),
            id=np.full(shape, -1),
            valid=np.zeros(shape, dtype=bool),
        )
        for row, (slot, one) in enumerate(zip(slots.tolist(), now, strict=True)):
            count = len(one.number)
            found.box[row, :count] = np.concatenate([one.state[:, :3], one.size], axis=1)
            found.speed[row, :count], found.id[row, :count] = one.state[:, SPEED], one.number
            found.valid[row, :count] = one.number != self.vehicle[slot]
        return found

    def _edge_distance(self, slots: np.ndarray) -> Float[np.ndarray, " N"]:
        distance = np.empty(len(slots))
        for scene in np.unique(self.scene_of(slots)).tolist():
            mine = self.scene_of(slots) == scene
            lane_map = self.simulations[scene].road.lane_map
            distance[mine] = lane_map.edge_distance(self.state[slots[mine], :2])
        return distance

    def _is_at_end(self, slots: np.ndarray) -> Bool[np.ndarray, " N"]:
        left = [
            self.simulations[scene].remaining(int(self.vehicle[slot]))
            for slot, scene in zip(slots.tolist(), self.scene_of(slots).tolist(), strict=True)
        ]
        return np.array(left) < self.protocol.edge_margin

    def _newest(self, slot: int, num_frames: int) -> list[Moment]:
        return list(self.moments[slot // self.num_controlled])[-num_frames:]


class HighwayVectorEnv(RoadVectorEnv):
    """`num_envs` egos in highway-env, `num_controlled` of them in each scene.

    With one ego a scene, it does step by step what `SyncVectorEnv` of as many `HighwayEnv`s does. Egos that
    share a scene are adjacent rows, and when one of them is done, the scene is over for all: `terminated`
    for the one, `truncated` for the others. `reset(options={"episode": i})` starts scene `i` of the scenario.

    Args:
        num_envs: how many egos at a time.
        num_controlled: how many share a scene: highway-env's own vehicle, and those closest to it.
        scenario: one of `envs._highway.SCENARIOS`.
        config: what differs from highway-env's configuration, as `{"vehicles_count": 50}`.
        duration: of an episode [s].
        protocol: history before the hand-over, and judgement.
        recordings: scenes that `worldmodel prepare source=highway` recorded; then `episodes` are driven.
        episodes: what is handed over in `recordings`.
        options: `RoadOptions`.
    """

    core: HighwayCore
    knows = frozenset({Knowledge.OTHERS, Knowledge.LOG})

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_controlled: int = 1,
        scenario: str = "highway",
        config: Mapping[str, Any] | None = None,
        duration: float = 20.0,
        protocol: Protocol = V1,
        recordings: Sequence[Recording] = (),
        episodes: Sequence[Episode] = (),
        **options: Unpack[RoadOptions],
    ) -> None:
        core = HighwayCore(
            Scenario(scenario, config or {}),
            duration=duration,
            protocol=protocol,
            num_slots=num_envs,
            num_controlled=num_controlled,
            recordings=recordings,
            episodes=episodes,
        )
        super().__init__(core, **options)

    def _pick(self, slots: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
        """Egos of one scene drive the episode that the first of them draws."""
        first = self.core.scene_of(slots) * self.core.num_controlled
        leaders, scene = np.unique(first, return_inverse=True)
        return super()._pick(leaders)[scene]

    def _draw(
        self, slots: Int[np.ndarray, " N"], views: Float[np.ndarray, "N 3"], *, ago: Int[np.ndarray, " N"]
    ) -> UInt8[np.ndarray, "N C H W"]:
        image = np.empty((len(views), *self._image.shape[2:]), dtype=np.uint8)
        for scene in np.unique(self.core.scene_of(slots)).tolist():
            mine = self.core.scene_of(slots) == scene
            count = int(ago[mine].max()) + 1
            moments = list(self.core.moments[scene])[-count:]
            renderer = Renderer(recorded(moments, self.core.simulations[scene].road), self.raster_spec)
            frames = count - 1 - ago[mine]
            image[mine] = renderer.render(views[mine], frames, self.core.vehicle[slots[mine]])
        return image

    def _crop_road(self, slots: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N R HR WR"]:
        road = np.empty((len(slots), *self._road.shape[1:]), dtype=np.float32)
        for scene in np.unique(self.core.scene_of(slots)).tolist():
            mine = self.core.scene_of(slots) == scene
            field = RoadField(self.core.simulations[scene].road.lane_map)
            road[mine] = field.crop(self.core.state[slots[mine], :3], self.road_spec)
        return road


class HighwayEnv(RoadEnv):
    """One ego; arguments and options as in `HighwayVectorEnv`.

    Example:
        >>> env = HighwayEnv(scenario="merge")
        >>> observation, info = env.reset(seed=0)
        >>> observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        >>> observation["image"].shape, info["steps"]
        ((10, 3, 117, 24), 1)
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(HighwayVectorEnv, **options)


def continuing(
    recordings: Sequence[Recording],
    episodes: Sequence[Episode],
    num_envs: int = 1,
    *,
    renderers: Sequence[Renderer] | None = None,
    **options: Any,
) -> HighwayVectorEnv:
    """Returns an environment that takes recorded scenes up where `episodes` hand over; nobody repeats them.

    Args:
        recordings: made by highway-env (`worldmodel prepare source=highway`).
        episodes: as for `envs.ReplayVectorEnv`.
        num_envs: how many at a time.
        renderers: not needed.
        options: as in `HighwayVectorEnv`.
    """
    return HighwayVectorEnv(num_envs, recordings=recordings, episodes=episodes, **options)
