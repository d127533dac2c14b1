"""Training windows from a planner's own driving: situations it gets itself into, not only recorded ones.

A policy that has seen nothing but recorded situations has never been too close, or too slow, and does not
know the way back (covariate shift; Ross et al. 2011). Here it drives vehicles of the training part while it
learns, and what it meets is mixed into the batches.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Generator, Tensor

from worldmodel.evaluation.suite import to_obs
from worldmodel.protocols import Planner
from worldmodel.scene import inverse
from worldmodel.types import Clip, Obs

INFO = ("origin", "episode_id", "steps")
"""What is known of each episode, and kept with the state."""


class Practice:
    """Replaces a share of the rows of each batch by situations of the planner's own driving.

    Only for losses that read the observation of a window and nothing of its future (`protocols.Privileged`
    names the others), which an own situation does not have: its future frames repeat the present, and nobody
    looked there (`covered`).

    Where the planner has got to is its state: an episode that begins in the same way and gets the same
    actions is the same, so those are kept, and driven again after a kill. A memory of the planner is not.

    Args:
        planner: drives, told observations on the CPU; the policy as it is at the time.
        env: training traffic, which starts a new episode by itself in the step that ended the last
            (`autoreset_mode="SameStep"`), with random numbers for each ego (`np_random`).
        share: of the rows.
        num_ticks: steps driven for each batch.
        dt: of a step [s].
        seed: of the episodes and the rows.
    """

    def __init__(
        self,
        planner: Planner,
        env: VectorEnv,
        *,
        share: float = 0.5,
        num_ticks: int = 3,
        dt: float = 0.1,
        seed: int = 0,
    ) -> None:
        if not 0.0 < share <= 1.0 or num_ticks < 1:
            raise ValueError(
                f"share={share}, num_ticks={num_ticks}: expected a share above 0, and a step or more"
            )
        self.planner, self.env, self.share, self.num_ticks, self.dt = planner, env, share, num_ticks, dt
        self._generator = Generator().manual_seed(seed)
        self._scenes = np.arange(env.num_envs)
        self._now = env.reset(seed=seed)
        self._driven: list[np.ndarray] = []  # actions of all egos, as far back as an episode reaches
        self._before = self._state()

    def __call__(self, clip: Clip) -> Clip:
        """Drives on, and returns the batch with some of its rows replaced."""
        self._before = self._state()
        num = min(round(self.share * len(clip.size)), self.env.num_envs)
        if not num:
            return clip
        for _ in range(self.num_ticks):
            action = self.planner.plan(self._obs()).action[:, 0].detach().numpy()
            self._step(action.astype(np.float32))
        rows = torch.randperm(self.env.num_envs, generator=self._generator)[:num]
        own = as_clip(self._obs()[rows], num_frames=clip.image.shape[1], dt=self.dt).to(clip.size.device)
        parts = {one.name: (getattr(own, one.name), getattr(clip, one.name)) for one in fields(Clip)}
        return Clip(**{name: torch.cat([new.to(old.dtype), old[num:]]) for name, (new, old) in parts.items()})

    def state_dict(self) -> dict[str, Any]:
        """Returns where the planner had got to before the last batch, which is the next to be made."""
        return self._before

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Drives all running episodes to where they were, each from the step that it began at."""
        info = {name: state[name].numpy() for name in INFO}
        num = len(state["action"])
        for tick in range(num + 1):
            begins = info["steps"] == num - tick
            if begins.any():
                options = {"episode": info["episode_id"], "reset_mask": begins}
                self._now = self.env.reset(options=options)
            if tick < num:
                self._step(state["action"][tick].numpy())
        self._now = self._now[0], info
        self._driven = list(state["action"].numpy())
        self._generator.set_state(state["rows"])
        for generator, numbers in zip(self._generators(), state["episodes"], strict=True):
            generator.bit_generator.state = numbers

    def _state(self) -> dict[str, Any]:
        _, info = self._now
        return {
            **{name: torch.from_numpy(info[name].copy()) for name in INFO},
            "action": torch.from_numpy(np.array(self._driven, dtype=np.float32)),
            "rows": self._generator.get_state(),
            "episodes": [one.bit_generator.state for one in self._generators()],
        }

    def _generators(self) -> tuple[np.random.Generator, ...]:
        return self.env.np_random  # type: ignore[return-value]  # one for each, as in SyncVectorEnv

    def _step(self, action: np.ndarray) -> None:
        observation, _, _, _, info = self.env.step(action)
        self._now = observation, info
        self._driven.append(action)
        del self._driven[: len(self._driven) - int(info["steps"].max())]

    def _obs(self) -> Obs:
        observation, info = self._now
        return to_obs(observation, info, scene=self._scenes)


def as_clip(obs: Obs, *, num_frames: int, dt: float) -> Clip:
    """Returns a window whose history is an observation and whose future repeats its newest frame.

    Args:
        obs: what was seen.
        num_frames: of the window, at least those of the observation.
        dt: between frames [s].
    """
    extra = num_frames - obs.state.shape[1]
    if extra < 0:
        raise ValueError(f"num_frames={num_frames}, but the observation has {obs.state.shape[1]} already")

    def prolonged(part: Tensor) -> Tensor:
        return torch.cat([part, part[:, -1:].expand(-1, extra, *part.shape[2:])], dim=1)

    state = prolonged(obs.state)
    action = inverse(obs.state, dt)
    nothing = action.new_zeros(len(action), extra, 2)
    covered = torch.zeros(*state.shape[:2], obs.image.shape[-2], dtype=torch.bool, device=state.device)
    covered[:, : obs.state.shape[1]] = True
    return Clip(
        image=prolonged(obs.image),
        state=state,
        action=torch.cat([action, nothing], dim=1),
        view=state[..., :3],
        covered=covered,
        size=obs.size,
        road=obs.road,
        origin=obs.origin,
    )
