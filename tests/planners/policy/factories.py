"""Tiny policies, and worlds small enough to differentiate by hand."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from planners.policy import PolicyNetwork
from tests.models.factories import SPEC
from tests.planners.factories import ROAD
from worldmodel.scene import kinematics
from worldmodel.types import Clip, Indexed, Obs, Prediction, Rollout

TINY = {"raster": SPEC, "lag": 2, "pool": (2, 1), "channels": 4, "features": 8}


def make_policy(head=None, *, seed: int = 0, scale: float = 0.3, **options) -> PolicyNetwork:
    """A tiny policy that does act: its last layer is not zero."""
    torch.manual_seed(seed)
    policy = PolicyNetwork(head, **{**TINY, **options})
    torch.nn.init.normal_(policy.head.linear.weight, std=scale)
    return policy.eval()


def with_road(clip: Clip | Obs) -> Clip | Obs:
    """The same on a straight road of three lanes."""
    return replace(clip, road=ROAD.repeat(len(clip.size), 1, 1, 1))


@dataclass(frozen=True)
class PointHidden(Indexed):
    ego: Tensor
    size: Tensor
    road: Tensor


class PointWorld:
    """An empty world whose image is one number: how far the ego has come, plus the latent."""

    dt = 0.1

    def __init__(self, gain: float = 0.1) -> None:
        self.gain = torch.nn.Parameter(torch.tensor(gain), requires_grad=False)

    def init(self, obs: Obs) -> PointHidden:
        ego = torch.cat([torch.zeros_like(obs.state[:, -1, :3]), obs.state[:, -1, 3:]], dim=-1)
        return PointHidden(ego, obs.size, obs.road)

    def sample_latent(
        self, hidden: PointHidden, num_steps: int, generator: Generator | None = None
    ) -> Tensor:
        return torch.randn(len(hidden.ego), num_steps, 1, generator=generator)

    def step(self, hidden: PointHidden, action: Tensor, latent: Tensor) -> tuple[PointHidden, Prediction]:
        ego = kinematics.step(hidden.ego, action, self.dt)
        grey = self.gain * ego[:, 0] + 0.1 * latent[:, 0]
        image = grey[:, None, None, None].expand(-1, 1, SPEC.height, SPEC.width)
        return replace(hidden, ego=ego), Prediction(image=image, ego=ego, view=ego[:, :3])

    def unroll(self, hidden: PointHidden, action: Tensor, latent: Tensor) -> Rollout:
        frames = []
        for tick in range(action.shape[1]):
            hidden, frame = self.step(hidden, action[:, tick], latent[:, tick])
            frames.append(frame)
        image, ego, view = (
            torch.stack([getattr(one, k) for one in frames], 1) for k in ("image", "ego", "view")
        )
        before = torch.zeros_like(action[:, 0])
        return Rollout(image, ego, view, action, before, hidden.size, hidden.road)


def arrays(*parts: Tensor) -> list[np.ndarray]:
    return [part.detach().numpy() for part in parts]
