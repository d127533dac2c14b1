"""A road environment with a handful of actions, for learners that choose instead of steering (DQN)."""

from collections.abc import Sequence
from itertools import product

import gymnasium
import numpy as np
from gymnasium import spaces


class DiscreteActions(gymnasium.ActionWrapper[dict[str, np.ndarray], np.int64, np.ndarray]):
    """Action `i` is the `i`-th pair of an acceleration and a curvature; accelerations vary slowest.

    Args:
        env: with actions `(accel [m/s^2], curvature [1/m])`.
        accel: to choose from [m/s^2].
        curvature: to choose from [1/m].

    Example:
        >>> from worldmodel.data.synthetic import make_recording
        >>> from worldmodel.evaluation.protocol import episodes
        >>> from envs.replay import ReplayEnv
        >>> recording = make_recording()
        >>> env = DiscreteActions(ReplayEnv([recording], episodes([recording])))
        >>> env.action_space, env.action(np.int64(5)).tolist()
        (Discrete(9), [0.0, 0.009999999776482582])
    """

    def __init__(
        self,
        env: gymnasium.Env[dict[str, np.ndarray], np.ndarray],
        *,
        accel: Sequence[float] = (-4.0, 0.0, 2.0),
        curvature: Sequence[float] = (-0.01, 0.0, 0.01),
    ) -> None:
        super().__init__(env)
        self._actions = np.array(list(product(accel, curvature)), dtype=np.float32)
        outside = [one.tolist() for one in self._actions if not env.action_space.contains(one)]
        if outside:
            raise ValueError(f"actions {outside} are not in {env.action_space}; choose smaller ones")
        self.action_space = spaces.Discrete(len(self._actions))

    def action(self, action: np.int64) -> np.ndarray:
        """Returns acceleration and curvature of an action."""
        return self._actions[action].copy()
