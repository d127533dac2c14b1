"""Simulated traffic in which we drive one vehicle, and which reacts: a batched environment, and a single one.

Scenes are taken up where a recording of the same scenario (`worldmodel.scene.traffic.simulate`) hands one of
its vehicles over; from then on everybody else drives by the rules of `worldmodel.scene.traffic`, and makes
way, brakes or cuts in, depending on what the ego does. Observation, action, reward, endings and info are
those of `envs.replay`, and so are the episodes: what the recorded driver did is known, and `success` means
the same.
"""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any, Unpack

import numpy as np
from jaxtyping import Float, Int, UInt8

from envs._scenery import Scenery
from envs._traffic import TrafficCore
from envs._vector import RoadEnv, RoadOptions, RoadVectorEnv
from worldmodel.evaluation.protocol import V1, Episode, Protocol
from worldmodel.evaluation.protocol import episodes as find_episodes
from worldmodel.evaluation.truth import Traffic
from worldmodel.protocols import Knowledge
from worldmodel.scene import Recording, Renderer, RoadField, render_moments
from worldmodel.scene.traffic import MOTORWAY, Scenario, simulate

NUM_FRAMES = 220
"""Of the scenes that registered environments start from."""


class TrafficVectorEnv(RoadVectorEnv):
    """`num_envs` egos at once; step by step what `SyncVectorEnv` of as many `TrafficEnv`s does.

    `reset(options={"episode": i})` starts given episodes (one for all or one each) instead of random ones,
    and `options={"reset_mask": mask}` restarts some only.

    Args:
        recordings: of `scenario`.
        episodes: what can be driven (`worldmodel.evaluation.protocol.episodes`).
        num_envs: how many at a time.
        scenario: whose road and population go on.
        seed: of the drivers whom egos meet; an episode has the same ones every time.
        protocol: the one the episodes were made by.
        renderers: one for each recording, where they exist already; they must draw `raster_spec`.
        options: `RoadOptions`.
    """

    core: TrafficCore
    knows = frozenset({Knowledge.OTHERS, Knowledge.TRAFFIC})

    def __init__(
        self,
        recordings: Sequence[Recording],
        episodes: Sequence[Episode],
        num_envs: int = 1,
        *,
        scenario: Scenario,
        seed: int = 0,
        protocol: Protocol = V1,
        renderers: Sequence[Renderer] | None = None,
        **options: Unpack[RoadOptions],
    ) -> None:
        core = TrafficCore(
            recordings, episodes, scenario=scenario, protocol=protocol, num_slots=num_envs, seed=seed
        )
        super().__init__(core, **options)
        self._scenery = Scenery(recordings, self.raster_spec, renderers=renderers)
        self._field = RoadField(core.lane_map)

    def traffic(self, slots: Int[np.ndarray, " N"]) -> Traffic:
        """Returns how the traffic of `slots` stands, and who drives: for privileged agents."""
        return self.core.traffic(slots)

    def _draw(
        self, slots: Int[np.ndarray, " N"], views: Float[np.ndarray, "N 3"], *, ago: Int[np.ndarray, " N"]
    ) -> UInt8[np.ndarray, "N C H W"]:
        core = self.core
        image = np.empty((len(views), *self._image.shape[2:]), dtype=np.uint8)
        is_recorded = core.is_recorded(slots, ago)
        known = slots[is_recorded]
        image[is_recorded] = self._scenery.draw(
            core.recording[known],
            views[is_recorded],
            core.frame[known] - ago[is_recorded],
            core.vehicle[known],
        )
        live = np.flatnonzero(~is_recorded)
        if len(live):
            now = core.others(slots[live])
            image[live] = render_moments(views[live], now.box, now.valid, core.lane_map, self.raster_spec)
        return image

    def _crop_road(self, slots: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N R HR WR"]:
        return self._field.crop(self.core.state[slots, :3], self.road_spec)


class TrafficEnv(RoadEnv):
    """One ego; arguments and options as in `TrafficVectorEnv`.

    Example:
        >>> from worldmodel.evaluation.protocol import episodes
        >>> recordings = simulate(MOTORWAY, num_frames=80, warm_up=1.0)
        >>> env = TrafficEnv(recordings, episodes(recordings), scenario=MOTORWAY)
        >>> observation, info = env.reset(seed=0, options={"episode": 3})
        >>> observation["image"].shape, int(info["episode_id"])
        ((10, 3, 117, 24), 3)
    """

    def __init__(self, recordings: Sequence[Recording], episodes: Sequence[Episode], **options: Any) -> None:
        super().__init__(partial(TrafficVectorEnv, recordings, episodes), **options)
        self.episodes = tuple(episodes)


def make_traffic(
    *, scenario: Scenario = MOTORWAY, num_scenes: int = 4, protocol: Protocol = V1, **options: Any
) -> TrafficEnv:
    """Returns the environment of freshly simulated scenes; `options` as in `TrafficEnv`."""
    recordings, found = _scenes(scenario, num_scenes, protocol)
    return TrafficEnv(recordings, found, scenario=scenario, protocol=protocol, **options)


def make_traffic_vector(
    num_envs: int = 1,
    *,
    scenario: Scenario = MOTORWAY,
    num_scenes: int = 4,
    protocol: Protocol = V1,
    **options: Any,
) -> TrafficVectorEnv:
    """Returns the batched environment of freshly simulated scenes; `options` as in `TrafficVectorEnv`."""
    recordings, found = _scenes(scenario, num_scenes, protocol)
    return TrafficVectorEnv(recordings, found, num_envs, scenario=scenario, protocol=protocol, **options)


@cache
def _scenes(scenario: Scenario, num_scenes: int, protocol: Protocol) -> tuple[list[Recording], list[Episode]]:
    recordings = simulate(scenario, num_frames=NUM_FRAMES, num_scenes=num_scenes)
    return recordings, find_episodes(recordings, protocol=protocol)
