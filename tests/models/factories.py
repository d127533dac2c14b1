"""Small observations and clips whose content is known."""

from dataclasses import replace

import torch

from worldmodel.scene import RasterSpec, comoving_views, kinematics, render_boxes
from worldmodel.types import Clip, Obs

SPEC = RasterSpec(height=32, width=16)
HISTORY, HORIZON = 4, 10


def make_clip(batch: int = 2, *, speed: float = 10.0, seed: int = 0, relative_speed: float = 0.0) -> Clip:
    """Returns clips of a straight-driving ego with one car 4 m ahead that gains `relative_speed` [m/s]."""
    frames = HISTORY + HORIZON
    generator = torch.Generator().manual_seed(seed)
    start = torch.zeros(batch, 4)
    start[:, 1] = torch.rand(batch, generator=generator)
    start[:, 3] = speed
    action = torch.zeros(batch, frames - 1, 2)
    state = torch.cat([start.unsqueeze(1), kinematics.rollout(start, action, 0.1)], dim=1)
    view = torch.cat([state[:, :HISTORY, :3], comoving_views(state[:, HISTORY - 1], HORIZON, 0.1)], dim=1)
    ahead = 4.0 + relative_speed * 0.1 * (torch.arange(frames) - HISTORY + 1)
    boxes = torch.zeros(batch, frames, 1, 5)
    boxes[..., 0, 0], boxes[..., 0, 3], boxes[..., 0, 4] = ahead, 4.0, 1.8
    vehicles = render_boxes(boxes, torch.ones(batch, frames, 1, dtype=torch.bool), SPEC)
    image = torch.zeros(batch, frames, 3, SPEC.height, SPEC.width)
    image[:, :, 1] = vehicles
    return Clip(
        image=(image * 255).round().to(torch.uint8),
        state=state,
        action=action,
        view=view,
        covered=torch.ones(batch, frames, SPEC.height, dtype=torch.bool),
        size=torch.tensor([[4.5, 1.9]]).repeat(batch, 1),
        road=torch.zeros(batch, 3, 62, 48),
        origin=torch.arange(batch)[:, None] * torch.tensor([0, 1, 0]),
    )


def make_obs(batch: int = 2, **kwargs: float) -> Obs:
    """Returns the history of `make_clip`."""
    return make_clip(batch, **kwargs).obs(HISTORY)  # type: ignore[arg-type]


def shortened(clip: Clip, horizon: int) -> Clip:
    """Returns the clip with fewer frames of future."""
    frames = HISTORY + horizon
    cut = {name: getattr(clip, name)[:, :frames] for name in ("image", "state", "view", "covered")}
    return replace(clip, action=clip.action[:, : frames - 1], **cut)
