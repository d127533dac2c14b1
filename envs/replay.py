"""Recorded traffic in which we drive one vehicle: a batched environment, and the single one on top.

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

**Info**: `origin` (recording, vehicle row, frame), `episode` (index), `outcome` (`Outcome`), `side` (`Side`),
`hit_id`, `off_road`, `reverse`, `steps`, `distance`, `human_distance`, `min_ttc`, `mean_jerk`, `action` (as
executed).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs._core import ReplayCore
from envs._draw import enlarge
from envs.space import action_space, observation_space
from worldmodel.evaluation.episode import Outcome
from worldmodel.evaluation.protocol import V1, Episode, Protocol
from worldmodel.scene import RasterSpec, Recording, X
from worldmodel.scene.raster import Renderer
from worldmodel.scene.road import RoadField, RoadSpec

CRASH_COST = 100.0
"""Taken from the reward for a collision or for leaving the road [m of progress]."""
FRAMES_PER_SECOND = 10

Observation = dict[str, np.ndarray]


class ReplayVectorEnv(VectorEnv[Observation, np.ndarray, np.ndarray]):
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
        self.core = ReplayCore(recordings, episodes, protocol=protocol, num_slots=num_envs)
        self.num_envs, self.history = num_envs, history
        self.raster_spec, self.road_spec = raster_spec, road_spec
        self.autoreset_mode, self.render_mode = AutoresetMode(autoreset_mode), render_mode
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": FRAMES_PER_SECOND,
            "autoreset_mode": self.autoreset_mode,
        }
        self._renderers = renderers or [Renderer(one, raster_spec) for one in recordings]
        self._fields = [RoadField(one.lane_map) for one in recordings]
        road = self._fields[0].crop(np.zeros((1, 3)), road_spec).shape[1:]
        image = (history, len(raster_spec.channels), raster_spec.height, raster_spec.width)
        self.single_action_space, self.single_observation_space = (
            action_space(),
            observation_space(image, road),
        )
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        # Ring buffers: each slot's newest frame is the one before `_oldest`.
        self._image = np.zeros((num_envs, *image), dtype=np.uint8)
        self._state = np.zeros((num_envs, history, 4))
        self._oldest = np.zeros(num_envs, dtype=np.int64)
        self._road = np.zeros((num_envs, *road), dtype=np.float32)
        self._generators = [seeding.np_random()[0] for _ in range(num_envs)]
        self._is_over = np.ones(num_envs, dtype=bool)

    @property
    def recordings(self) -> tuple[Recording, ...]:
        return self.core.recordings

    @property
    def episodes(self) -> tuple[Episode, ...]:
        return self.core.episodes

    @property
    def protocol(self) -> Protocol:
        return self.core.protocol

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts episodes; see the class for `options`."""
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        seeds = [None] * self.num_envs if seeds is None else seeds
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds, expected one for each of the {self.num_envs} environments")
        options = options or {}
        slots = np.flatnonzero(self._reset_mask(options))
        for slot in slots.tolist():
            if seeds[slot] is not None:
                self._generators[slot] = seeding.np_random(seeds[slot])[0]
        self._start(slots, options.get("episode"))
        return self._observation(), self._info(slots)

    def step(
        self, actions: np.ndarray
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Moves every ego by one step of `dt`."""
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs, 2):
            raise ValueError(f"actions have shape {actions.shape}, expected ({self.num_envs}, 2)")
        everyone = np.arange(self.num_envs)
        waiting = self._is_over.copy()
        if waiting.any() and self.autoreset_mode == AutoresetMode.DISABLED:
            raise AssertionError(
                f"episodes in slots {np.flatnonzero(waiting)} are over; reset them with options['reset_mask']"
            )
        reward = np.zeros(self.num_envs)
        driving, over = everyone[~waiting], everyone[waiting]
        reward[driving] = self._drive(driving, actions[driving])
        if len(over):
            self._start(over)
        outcome = self.core.outcome
        terminated = (outcome == Outcome.COLLISION) | (outcome == Outcome.OFF_ROAD)
        truncated = (outcome == Outcome.FINISHED) | (outcome == Outcome.TIME_OUT)
        self._is_over = terminated | truncated
        info: dict[str, Any] = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._is_over.any():
            over = everyone[self._is_over]
            info = self._final(over)
            self._start(over)
        return self._observation(), reward, terminated, truncated, info | self._info(everyone)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Returns what each ego sees, enlarged, itself drawn in the middle; None without a render mode."""
        if self.render_mode is None:
            return None
        newest = self._image[np.arange(self.num_envs), self._oldest - 1]
        return tuple(
            enlarge(image, size, self.raster_spec) for image, size in zip(newest, self.core.size, strict=True)
        )

    def _reset_mask(self, options: Mapping[str, Any]) -> np.ndarray:
        mask = options.get("reset_mask", np.ones(self.num_envs, dtype=bool))
        is_mask = isinstance(mask, np.ndarray) and mask.shape == (self.num_envs,) and mask.dtype == np.bool_
        if not is_mask or not mask.any():
            raise ValueError(
                f"reset_mask={mask!r}, expected a bool array ({self.num_envs},) with a True in it"
            )
        return mask

    def _start(self, slots: np.ndarray, wanted: Any = None) -> None:
        """Starts the wanted episodes (by slot number) or random ones, and draws their history."""
        if wanted is None:
            count = len(self.episodes)
            chosen = np.array([self._generators[slot].integers(count) for slot in slots.tolist()])
        else:
            chosen = np.broadcast_to(np.asarray(wanted, dtype=np.int64), (self.num_envs,))[slots]
        if not ((chosen >= 0) & (chosen < len(self.episodes))).all():
            raise ValueError(f"episode {chosen}, expected numbers from 0 to {len(self.episodes) - 1}")
        self.core.start(slots, chosen)
        self._is_over[slots] = False
        self._oldest[slots] = 0
        states = self.core.history(slots, self.history)  # (N, K, 4)
        self._state[slots] = states
        frames = self.core.frame[slots, None] - np.arange(self.history)[::-1]
        recording, vehicle = (
            np.repeat(of[slots], self.history) for of in (self.core.recording, self.core.vehicle)
        )
        drawn = self._draw(recording, states.reshape(-1, 4)[:, :3], frames=frames.ravel(), exclude=vehicle)
        self._image[slots] = drawn.reshape(len(slots), *self._image.shape[1:])
        self._crop_road(slots)

    def _drive(self, slots: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Steps, draws the new frame over the oldest, and returns the rewards."""
        core, before = self.core, self.core.state[slots, X]
        core.step(slots, actions)
        drawn = self._draw(
            core.recording[slots],
            core.state[slots, :3],
            frames=core.frame[slots],
            exclude=core.vehicle[slots],
        )
        self._image[slots, self._oldest[slots]] = drawn
        self._state[slots, self._oldest[slots]] = core.state[slots]
        self._oldest[slots] = (self._oldest[slots] + 1) % self.history
        self._crop_road(slots)
        crashed = np.isin(core.outcome[slots], (Outcome.COLLISION, Outcome.OFF_ROAD))
        return core.state[slots, X] - before - CRASH_COST * crashed

    def _draw(
        self, recording: np.ndarray, views: np.ndarray, *, frames: np.ndarray, exclude: np.ndarray
    ) -> np.ndarray:
        image = np.empty((len(views), *self._image.shape[2:]), dtype=np.uint8)
        for number in np.unique(recording):
            mine = recording == number
            image[mine] = self._renderers[number].render(views[mine], frames[mine], exclude[mine])
        return image

    def _crop_road(self, slots: np.ndarray) -> None:
        for number in np.unique(self.core.recording[slots]):
            mine = slots[self.core.recording[slots] == number]
            self._road[mine] = self._fields[number].crop(self.core.state[mine, :3], self.road_spec)

    def _observation(self) -> Observation:
        """A copy, oldest frame first: nobody gets hold of the buffers."""
        order = (self._oldest[:, None] + np.arange(self.history)) % self.history  # (N, K)
        rows = np.arange(self.num_envs)[:, None]
        return {
            "image": self._image[rows, order],
            "road": self._road.copy(),
            "size": self.core.size.astype(np.float32),
            "state": self._state[rows, order].astype(np.float32),
        }

    def _info(self, slots: np.ndarray) -> dict[str, Any]:
        """What is known of `slots`, zero elsewhere, each key with its mask, as Gymnasium does it."""
        mask = np.zeros(self.num_envs, dtype=bool)
        mask[slots] = True
        info: dict[str, Any] = {}
        for name in INFO:
            value = getattr(self.core, name)
            info[name] = np.where(mask.reshape(-1, *[1] * (value.ndim - 1)), value, np.zeros_like(value))
            info[f"_{name}"] = mask.copy()
        return info

    def _final(self, slots: np.ndarray) -> dict[str, Any]:
        """Last observation and info of the egos that are about to be reset."""
        observation = self._observation()
        final = np.full(self.num_envs, None, dtype=object)
        for slot in slots.tolist():
            final[slot] = {name: value[slot].copy() for name, value in observation.items()}
        mask = np.isin(np.arange(self.num_envs), slots)
        return {
            "final_obs": final,
            "_final_obs": mask,
            "final_info": self._info(slots),
            "_final_info": mask.copy(),
        }


INFO = (
    "origin",
    "episode",
    "outcome",
    "side",
    "hit_id",
    "off_road",
    "reverse",
    "steps",
    "distance",
    "human_distance",
    "min_ttc",
    "mean_jerk",
    "action",
)
"""Names in an info, all of them attributes of `ReplayCore`."""


class ReplayEnv(gymnasium.Env[Observation, np.ndarray]):
    """One ego; arguments and options as in `ReplayVectorEnv`.

    Example:
        >>> from worldmodel.data.synthetic import make_recording
        >>> from worldmodel.evaluation.protocol import episodes
        >>> recording = make_recording()
        >>> env = ReplayEnv([recording], episodes([recording]))
        >>> observation, info = env.reset(seed=0, options={"episode": 3})
        >>> observation["image"].shape, int(info["episode"])
        ((10, 3, 117, 24), 3)
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": FRAMES_PER_SECOND}  # noqa: RUF012 - Gymnasium's

    def __init__(
        self,
        recordings: Sequence[Recording],
        episodes: Sequence[Episode],
        *,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        self.render_mode = render_mode
        self._batch = ReplayVectorEnv(
            recordings,
            episodes,
            1,
            autoreset_mode=AutoresetMode.DISABLED,
            render_mode=render_mode,
            **options,
        )
        self.observation_space = self._batch.single_observation_space
        self.action_space = self._batch.single_action_space

    @property
    def episodes(self) -> tuple[Episode, ...]:
        return self._batch.episodes

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts `options["episode"]`, or a random one."""
        super().reset(seed=seed)
        episode = (options or {}).get("episode")
        if episode is None:
            episode = self.np_random.integers(len(self.episodes))
        observation, info = self._batch.reset(options={"episode": episode})
        return _first(observation), _first_info(info)

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Moves the ego by one step of `dt`."""
        observation, reward, terminated, truncated, info = self._batch.step(np.asarray(action)[None])
        done = bool(terminated[0]), bool(truncated[0])
        return _first(observation), float(reward[0]), *done, _first_info(info)

    def render(self) -> np.ndarray | None:
        """Returns the ego's view, enlarged; None without a render mode."""
        frames = self._batch.render()
        return None if frames is None else frames[0]


def _first(observation: Observation) -> Observation:
    return {name: value[0] for name, value in observation.items()}


def _first_info(info: Mapping[str, Any]) -> dict[str, Any]:
    return {name: info[name][0] if info[name].ndim > 1 else info[name][0].item() for name in INFO}
