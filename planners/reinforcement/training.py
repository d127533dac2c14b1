"""A learner of stable-baselines3 at work on one of our policies: advance, look, stop, carry on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from planners.policy import PolicyNetwork, PolicyView
from planners.policy.encoder import ViewEncoder

OUTSIDE = ("rollout/", "time/")
"""Prefixes of what stable-baselines3 logs for its own console."""


class ViewFeatures(BaseFeaturesExtractor):
    """A policy's encoder as features extractor: a copy, so that actor and critic begin alike and then differ.

    Args:
        observation_space: of views.
        make: returns the encoder.
        features: that come out of it.
    """

    def __init__(self, observation_space: spaces.Space[Any], make: Any, features: int) -> None:
        super().__init__(observation_space, features)
        self.encoder: ViewEncoder = make()

    def forward(self, observations: Mapping[str, Tensor]) -> Float[Tensor, "B F"]:
        """Returns the features."""
        seen: Tensor = self.encoder(PolicyView(**observations))
        return seen


class StableTraining:
    """A training that can be advanced by a few thousand steps at a time.

    Not restored after a kill: running episodes (new ones begin), random numbers (seeded anew), and what DQN
    remembers.

    Args:
        algorithm: acts and learns; its parts `encoder` and `linear` are those of `policy`.
        policy: to train; `export` gives it what was learnt.
        encoder: of the algorithm's actor.
        linear: its last layer.
        chunk: steps of one `advance`, all slots together.
    """

    def __init__(
        self,
        algorithm: BaseAlgorithm,
        policy: PolicyNetwork,
        *,
        encoder: nn.Module,
        linear: nn.Module,
        chunk: int,
    ) -> None:
        self.algorithm, self.policy, self.chunk = algorithm, policy, chunk
        self._pairs = ((encoder, policy.encoder), (linear, policy.head.linear))
        algorithm.set_logger(Logger(folder=None, output_formats=[]))

    @property
    def steps(self) -> int:
        """Taken so far, in all slots together."""
        return int(self.algorithm.num_timesteps)

    def advance(self) -> dict[str, float]:
        """Acts and learns for `chunk` steps, and returns what there is to log."""
        self.algorithm.learn(self.chunk, reset_num_timesteps=False, log_interval=None)  # type: ignore[arg-type]
        self.export()
        found = {
            name: float(value)
            for name, value in self.algorithm.logger.name_to_value.items()
            if not name.startswith(OUTSIDE) and isinstance(value, int | float | np.number)
        }
        return found | self._recent()

    def export(self) -> None:
        """Gives the policy the actor's weights."""
        for learnt, mine in self._pairs:
            mine.load_state_dict(learnt.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors and numbers: networks, optimiser, steps."""
        return {
            "steps": self.steps,
            "networks": self.algorithm.policy.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Carries on from there."""
        self.algorithm.num_timesteps = int(state["steps"])
        self.algorithm.policy.load_state_dict(state["networks"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.export()

    @property
    def _optimizer(self) -> torch.optim.Optimizer:
        optimizer = self.algorithm.policy.optimizer
        assert isinstance(optimizer, torch.optim.Optimizer)
        return optimizer

    def _recent(self) -> dict[str, float]:
        """Means over the last hundred episodes."""
        recent, safe = list(self.algorithm.ep_info_buffer or ()), self.algorithm.ep_success_buffer
        if not recent or not safe:
            return {}
        return {
            "rollout/reward": float(np.mean([one["r"] for one in recent])),
            "rollout/steps": float(np.mean([one["l"] for one in recent])),
            "rollout/crash": 1.0 - float(np.mean(list(safe))),
        }
