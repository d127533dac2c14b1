"""Gymnasium's contract for driving on a road: a batched environment, and a single one on top.

`RoadVectorEnv` does what all of them share: spaces, the history of rasters and states, rewards, resets,
infos. Who else is on the road and how it is drawn is for the environments themselves (`envs.replay`,
`envs.highway`) to say.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Float, Int, UInt8

from envs._core import RoadCore
from envs._draw import enlarge
from envs.space import action_space, observation_space
from worldmodel.evaluation.episode import Outcome
from worldmodel.evaluation.protocol import Protocol
from worldmodel.evaluation.truth import Others
from worldmodel.protocols import Knowledge
from worldmodel.scene import RasterSpec, RoadChannel, RoadSpec

CRASH_COST = 100.0
"""Taken from the reward for a collision or for leaving the road [m of progress]."""
FRAMES_PER_SECOND = 10

Observation = dict[str, np.ndarray]


class RoadOptions(TypedDict, total=False):
    """What every road environment takes by name.

    Attributes:
        history: frames `K` in an observation, at most those before the hand-over; 10 by default.
        raster_spec: of the rasters.
        road_spec: of the road patch.
        autoreset_mode: when a finished ego gets its next episode, as everywhere in Gymnasium.
        render_mode: None or `rgb_array`.
    """

    history: int
    raster_spec: RasterSpec
    road_spec: RoadSpec
    autoreset_mode: AutoresetMode | str
    render_mode: str | None


class RoadVectorEnv(VectorEnv[Observation, np.ndarray, np.ndarray]):
    """`num_envs` egos at once; step by step what `SyncVectorEnv` of as many `RoadEnv`s does.

    `reset(options={"episode": i})` starts given episodes (one for all or one each) instead of random ones,
    and `options={"reset_mask": mask}` restarts some only.

    Args:
        core: what moves and judges the egos, one slot each.
        history, raster_spec, road_spec, autoreset_mode, render_mode: `RoadOptions`.

    Raises:
        ValueError: a longer history than there is.
    """

    core: RoadCore
    knows: frozenset[Knowledge]

    def __init__(
        self,
        core: RoadCore,
        *,
        history: int = 10,
        raster_spec: RasterSpec = RasterSpec(),  # noqa: B008 - frozen
        road_spec: RoadSpec = RoadSpec(),  # noqa: B008 - frozen
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        if history > core.num_history:
            raise ValueError(
                f"history={history} exceeds the {core.num_history} frames before the hand-over; "
                "lower it or raise Protocol.history"
            )
        num_envs = core.num_slots
        self.core, self.num_envs, self.history = core, num_envs, history
        self.raster_spec, self.road_spec = raster_spec, road_spec
        self.autoreset_mode, self.render_mode = AutoresetMode(autoreset_mode), render_mode
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": FRAMES_PER_SECOND,
            "autoreset_mode": self.autoreset_mode,
        }
        road = (len(RoadChannel), road_spec.height, road_spec.width)
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

    @abstractmethod
    def _draw(
        self, slots: Int[np.ndarray, " N"], views: Float[np.ndarray, "N 3"], *, ago: Int[np.ndarray, " N"]
    ) -> UInt8[np.ndarray, "N C H W"]:
        """Returns the traffic of `slots`, without the ego, so many frames ago, as seen from `views`."""

    @abstractmethod
    def _crop_road(self, slots: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N R HR WR"]:
        """Returns the road patches around the egos of `slots`."""

    @property
    def protocol(self) -> Protocol:
        return self.core.protocol

    @property  # type: ignore[misc]  # Gymnasium's can be set
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """Random numbers of each slot, which choose its next episode; as in `SyncVectorEnv`."""
        return tuple(self._generators)

    def others(self, slots: Int[np.ndarray, " N"]) -> Others:
        """Returns everybody but the egos of `slots`, at their newest frames: for privileged agents."""
        return self.core.others(slots)

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

    def _pick(self, slots: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
        """Returns a random episode for each slot."""
        count = self.core.num_episodes
        return np.array([self._generators[slot].integers(count) for slot in slots.tolist()])

    def _start(self, slots: np.ndarray, wanted: Any = None) -> None:
        """Starts the wanted episodes (by slot number) or random ones, and draws their history."""
        count = self.core.num_episodes
        if wanted is None:
            chosen = self._pick(slots)
        else:
            chosen = np.broadcast_to(np.asarray(wanted, dtype=np.int64), (self.num_envs,))[slots]
        if not ((chosen >= 0) & (chosen < count)).all():
            raise ValueError(f"episode {chosen}, expected numbers from 0 to {count - 1}")
        self.core.start(slots, chosen)
        self._is_over[slots] = False
        self._oldest[slots] = 0
        states = self.core.history(slots, self.history)  # (N, K, 4)
        self._state[slots] = states
        ago = np.tile(np.arange(self.history)[::-1], len(slots))
        drawn = self._draw(np.repeat(slots, self.history), states.reshape(-1, 4)[:, :3], ago=ago)
        self._image[slots] = drawn.reshape(len(slots), *self._image.shape[1:])
        self._road[slots] = self._crop_road(slots)

    def _drive(self, slots: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Steps, draws the new frame over the oldest, and returns the rewards."""
        core, before = self.core, self.core.distance[slots]
        core.step(slots, actions)
        drawn = self._draw(slots, core.state[slots, :3], ago=np.zeros_like(slots))
        self._image[slots, self._oldest[slots]] = drawn
        self._state[slots, self._oldest[slots]] = core.state[slots]
        self._oldest[slots] = (self._oldest[slots] + 1) % self.history
        self._road[slots] = self._crop_road(slots)
        crashed = np.isin(core.outcome[slots], (Outcome.COLLISION, Outcome.OFF_ROAD))
        return np.asarray(core.distance[slots] - before - CRASH_COST * crashed)

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
    "episode_id",
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
"""Names in an info, all of them attributes of `RoadCore`."""


class RoadEnv(gymnasium.Env[Observation, np.ndarray]):
    """One ego: a batch of one without automatic resets, unpacked.

    Args:
        make: of the batch.
        options: of `make`, but `num_envs` and `autoreset_mode`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": FRAMES_PER_SECOND}  # noqa: RUF012 - Gymnasium's

    def __init__(self, make: Callable[..., RoadVectorEnv], **options: Any) -> None:
        batch = make(num_envs=1, autoreset_mode=AutoresetMode.DISABLED, **options)
        self.render_mode = batch.render_mode
        self._batch = batch
        self.observation_space = batch.single_observation_space
        self.action_space = batch.single_action_space

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts `options["episode"]`, or a random one."""
        super().reset(seed=seed)
        episode = (options or {}).get("episode")
        if episode is None:
            episode = self.np_random.integers(self._batch.core.num_episodes)
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
