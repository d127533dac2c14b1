"""Recorded traffic in which we drive one vehicle: a batched environment, and a single one.

The ego starts from a recorded history (`worldmodel.evaluation.protocol`), moves by
`worldmodel.scene.kinematics` and sees rasters drawn at its own poses; the others repeat their recording and
never react.

**Observation** (one ego): `image` uint8 `(K, C, H, W)`, `state` float32 `(K, 4)` in the world frame, `size`
float32 `(2,)`, `road` float32 `(R, HR, WR)`: the fields of `worldmodel.types.Obs`. **Action**: `(accel
[m/s^2], curvature [1/m])`, clipped to the action space. **Reward**: metres of progress along the road in this
step, minus `CRASH_COST` for a collision or for leaving the road.

`terminated` means that the drive went wrong (collision, off-road): nothing follows. `truncated` means that
the recording ends here, in time or in space, while the traffic would go on: a value function should
bootstrap.

**Info**: `origin` (recording, vehicle row, frame), `episode_id` (its number; `episode` belongs to the
statistics of Gymnasium and stable-baselines3), `outcome` (`Outcome`), `side` (`Side`), `hit_id`, `off_road`,
`reverse`, `steps`, `distance`, `human_distance`, `min_ttc`, `mean_jerk`, `action` (as executed).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from jaxtyping import Float, Int, UInt8

from envs._core import ReplayCore
from envs._vector import RoadEnv, RoadVectorEnv
from worldmodel.evaluation.protocol import V1, Episode, Protocol
from worldmodel.protocols import Knowledge
from worldmodel.scene import RasterSpec, Recording, Renderer, RoadField, RoadSpec


class ReplayVectorEnv(RoadVectorEnv):
    """`num_envs` egos at once; step by step what `SyncVectorEnv` of as many `ReplayEnv`s does.

    `reset(options={"episode": i})` starts given episodes (one for all or one each) instead of random ones,
    and `options={"reset_mask": mask}` restarts some only.

    Args:
        recordings: kinematically consistent (`worldmodel.data.smooth.make_consistent`).
        episodes: what can be driven (`worldmodel.evaluation.protocol.episodes`).
        num_envs: how many at a time.
        protocol: the one the episodes were made by.
        history: frames `K` in an observation, at most the protocol's.
        raster_spec: of the rasters.
        road_spec: of the road patch.
        autoreset_mode: when a finished ego gets its next episode, as everywhere in Gymnasium.
        render_mode: None or `rgb_array`.
        renderers: one for each recording, where they exist already; they must draw `raster_spec`.
    """

    core: ReplayCore
    knows = frozenset({Knowledge.OTHERS, Knowledge.LOG, Knowledge.FUTURE})

    def __init__(
        self,
        recordings: Sequence[Recording],
        episodes: Sequence[Episode],
        num_envs: int = 1,
        *,
        protocol: Protocol = V1,
        history: int = 10,
        raster_spec: RasterSpec = RasterSpec(),  # noqa: B008 - frozen
        road_spec: RoadSpec = RoadSpec(),  # noqa: B008 - frozen
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        renderers: Sequence[Renderer] | None = None,
    ) -> None:
        if not episodes:
            raise ValueError("no episodes, expected at least one; choose other spans or another protocol")
        if history > min(one.history for one in episodes):
            raise ValueError(
                f"history={history} exceeds the {episodes[0].history} recorded frames before the hand-over; "
                "lower it or raise Protocol.history"
            )
        core = ReplayCore(recordings, episodes, protocol=protocol, num_slots=num_envs)
        super().__init__(
            core,
            history=history,
            raster_spec=raster_spec,
            road_spec=road_spec,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
        )
        self._renderers = renderers or [Renderer(one, raster_spec) for one in recordings]
        self._fields = [RoadField(one.lane_map) for one in recordings]

    @property
    def recordings(self) -> tuple[Recording, ...]:
        return self.core.recordings

    @property
    def episodes(self) -> tuple[Episode, ...]:
        return self.core.episodes

    def _draw(
        self, slots: Int[np.ndarray, " N"], views: Float[np.ndarray, "N 3"], *, ago: Int[np.ndarray, " N"]
    ) -> UInt8[np.ndarray, "N C H W"]:
        recording, vehicle = self.core.recording[slots], self.core.vehicle[slots]
        frames = self.core.frame[slots] - ago
        image = np.empty((len(views), *self._image.shape[2:]), dtype=np.uint8)
        for number in np.unique(recording):
            mine = recording == number
            image[mine] = self._renderers[number].render(views[mine], frames[mine], vehicle[mine])
        return image

    def _crop_road(self, slots: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N R HR WR"]:
        road = np.empty((len(slots), *self._road.shape[1:]), dtype=np.float32)
        for number in np.unique(self.core.recording[slots]):
            mine = self.core.recording[slots] == number
            road[mine] = self._fields[number].crop(self.core.state[slots[mine], :3], self.road_spec)
        return road


class ReplayEnv(RoadEnv):
    """One ego; arguments and options as in `ReplayVectorEnv`.

    Example:
        >>> from worldmodel.data.synthetic import make_recording
        >>> from worldmodel.evaluation.protocol import episodes
        >>> recording = make_recording()
        >>> env = ReplayEnv([recording], episodes([recording]))
        >>> observation, info = env.reset(seed=0, options={"episode": 3})
        >>> observation["image"].shape, int(info["episode_id"])
        ((10, 3, 117, 24), 3)
    """

    def __init__(self, recordings: Sequence[Recording], episodes: Sequence[Episode], **options: Any) -> None:
        mode = AutoresetMode.DISABLED
        super().__init__(ReplayVectorEnv(recordings, episodes, 1, autoreset_mode=mode, **options))
        self.episodes = tuple(episodes)
