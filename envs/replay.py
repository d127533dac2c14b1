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
from functools import partial
from typing import Any, Unpack

import numpy as np
from jaxtyping import Float, Int, UInt8

from envs._core import ReplayCore
from envs._scenery import Scenery
from envs._vector import RoadEnv, RoadOptions, RoadVectorEnv
from worldmodel.evaluation.protocol import V1, Episode, Protocol
from worldmodel.protocols import Knowledge
from worldmodel.scene import Recording, Renderer


class ReplayVectorEnv(RoadVectorEnv):
    """`num_envs` egos at once; step by step what `SyncVectorEnv` of as many `ReplayEnv`s does.

    `reset(options={"episode": i})` starts given episodes (one for all or one each) instead of random ones,
    and `options={"reset_mask": mask}` restarts some only.

    Args:
        recordings: kinematically consistent (`worldmodel.data.smooth.make_consistent`).
        episodes: what can be driven (`worldmodel.evaluation.protocol.episodes`).
        num_envs: how many at a time.
        protocol: the one the episodes were made by.
        renderers: one for each recording, where they exist already; they must draw `raster_spec`.
        options: `RoadOptions`.
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
        renderers: Sequence[Renderer] | None = None,
        **options: Unpack[RoadOptions],
    ) -> None:
        core = ReplayCore(recordings, episodes, protocol=protocol, num_slots=num_envs)
        super().__init__(core, **options)
        self._scenery = Scenery(recordings, self.raster_spec, renderers=renderers)

    @property
    def recordings(self) -> tuple[Recording, ...]:
        return self.core.recordings

    @property
    def episodes(self) -> tuple[Episode, ...]:
        return self.core.episodes

    def _draw(
        self, slots: Int[np.ndarray, " N"], views: Float[np.ndarray, "N 3"], *, ago: Int[np.ndarray, " N"]
    ) -> UInt8[np.ndarray, "N C H W"]:
        core = self.core
        return self._scenery.draw(core.recording[slots], views, core.frame[slots] - ago, core.vehicle[slots])

    def _crop_road(self, slots: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N R HR WR"]:
        core = self.core
        return self._scenery.crop_road(core.recording[slots], core.state[slots, :3], self.road_spec)


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
        super().__init__(partial(ReplayVectorEnv, recordings, episodes), **options)
        self.episodes = tuple(episodes)
