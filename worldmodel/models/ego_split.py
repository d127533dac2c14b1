"""The ego is kinematic, the world is learnt: a `WorldModel` with the full gradient from rasters to actions.

The forward model predicts the others in the co-moving frame, driven by how far the ego strays from it; the
ego moves by `scene.kinematics`; the predicted raster is then looked at from where the ego has gone. An action
therefore changes the next raster at once (the view moves) and the later ones twice (the others may react).
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from worldmodel.models.forward_model import ForwardModel, Masks
from worldmodel.models.memory import Drift, Memory, Seen
from worldmodel.models.view import move_view
from worldmodel.scene import kinematics, relative_pose
from worldmodel.types import Indexed, Obs, Prediction, Rollout


@dataclass(frozen=True)
class EgoSplitHidden(Indexed):
    """What `EgoSplit` carries from step to step.

    Attributes:
        features: hidden map of the forward model.
        seen: newest observed vehicle raster (`Memory`).
        start: ego state in the planning frame when observed: `(0, 0, 0, speed)`.
        ego: ego state in the planning frame now.
        size, road: of the observation.
        frames: those decoded by the last core step.
        drift: of what is seen, after the last core step.
        tick: steps since the observation.
    """

    features: Float[Tensor, "B C H W"]
    seen: Seen
    start: Float[Tensor, "B 4"]
    ego: Float[Tensor, "B 4"]
    size: Float[Tensor, "B 2"]
    road: Float[Tensor, "B R HR WR"]
    frames: Float[Tensor, "B F 1 H0 W0"] | None = None
    drift: Drift | None = None
    tick: int = 0

    @property
    def memory(self) -> Memory:
        return Memory(self.features, self.seen, self.start[:, 3])


class EgoSplit(nn.Module):
    """A forward model and the ego's kinematics, as one `WorldModel`.

    Args:
        forward_model: predicts the others; its parameters may be frozen.
        masks: locked dropout masks of this trajectory, or None for the mean model.
    """

    def __init__(self, forward_model: ForwardModel, *, masks: Masks | None = None) -> None:
        super().__init__()
        self.forward_model = forward_model
        self.masks = masks

    @property
    def dt(self) -> float:
        return self.forward_model.dt

    def init(self, obs: Obs) -> EgoSplitHidden:
        """Encodes the history."""
        memory = self.forward_model.encode(obs)
        start = starting_state(obs, memory.features)
        return EgoSplitHidden(
            memory.features, memory.seen, start, start, obs.size.to(start), obs.road.to(start)
        )

    def sample_latent(
        self, hidden: EgoSplitHidden, num_steps: int, generator: Generator | None = None
    ) -> Float[Tensor, "B T Z"]:
        """Draws latents from the prior, one per step; the core reads one in `stride`.

        All are drawn given the observed past, before anything is predicted. For a prior that does not look at
        the hidden map that is the prior itself. A learnt one (`ConditionalGaussian`) is exact at the first
        step only: later ones would be drawn from hidden maps that depend on actions not yet chosen.
        `ForwardModel.unroll_clip(use_prior=True)` draws each from its own.
        """
        draws = [self.forward_model.latent.prior(hidden.features, generator) for _ in range(num_steps)]
        return torch.stack(draws, dim=1)

    def step(
        self, hidden: EgoSplitHidden, action: Float[Tensor, "B 2"], latent: Float[Tensor, "B Z"]
    ) -> tuple[EgoSplitHidden, Prediction]:
        """Moves the ego by one step and, every `stride` steps, the others by `stride`."""
        model = self.forward_model
        phase = hidden.tick % model.stride
        if phase == 0 or hidden.frames is None:
            features = self._advance(hidden, hidden.features, hidden.ego, hidden.tick, latent)
            frames, drift = model.decode(features.unsqueeze(1), hidden.seen, self.masks, before=hidden.drift)
            hidden = replace(hidden, features=features, frames=frames, drift=drift)
        assert hidden.frames is not None
        ego = kinematics.step(hidden.ego, action, self.dt)
        tick = hidden.tick + 1
        image = self._look(hidden.frames[:, phase].sigmoid(), ego, hidden.start[:, 3], tick)
        return replace(hidden, ego=ego, tick=tick), Prediction(image=image, ego=ego, view=ego[:, :3])

    def unroll(
        self, hidden: EgoSplitHidden, action: Float[Tensor, "B T 2"], latent: Float[Tensor, "B T Z"]
    ) -> Rollout:
        """Equals `step` repeated from a fresh `hidden`, with all frames decoded in one call."""
        model, horizon = self.forward_model, action.shape[1]
        ego = kinematics.rollout(hidden.start, action, self.dt)
        before = torch.cat([hidden.start.unsqueeze(1), ego[:, :-1]], dim=1)
        features, steps = hidden.features, []
        for tick in range(0, horizon, model.stride):
            features = self._advance(hidden, features, before[:, tick], tick, latent[:, tick])
            steps.append(features)
        logits, _ = model.decode(torch.stack(steps, dim=1), hidden.seen, self.masks)
        frames = logits[:, :horizon].sigmoid()
        ticks = torch.arange(1, horizon + 1, device=ego.device, dtype=ego.dtype).repeat(ego.shape[0])
        speed = hidden.start[:, 3].repeat_interleave(horizon)
        image = self._look(frames.flatten(0, 1), ego.flatten(0, 1), speed, ticks)
        return Rollout(
            image=image.unflatten(0, (-1, horizon)),
            ego=ego,
            view=ego[..., :3],
            action=action,
            previous_action=torch.zeros_like(action[:, 0]),
            size=hidden.size,
            road=hidden.road,
        )

    def _advance(
        self, hidden: EgoSplitHidden, features: Tensor, ego: Float[Tensor, "B 4"], tick: int, latent: Tensor
    ) -> Tensor:
        speed = hidden.start[:, 3]
        nil = torch.zeros_like(speed)
        comoving = torch.stack([speed * (tick * self.dt), nil, nil, speed], dim=-1)
        motion = self.forward_model.embed_motion(ego - comoving, speed)
        return self.forward_model.advance(features, motion, latent, self.masks)

    def _look(
        self,
        frame: Float[Tensor, "B 1 H W"],
        ego: Float[Tensor, "B 4"],
        speed: Float[Tensor, " B"],
        tick: Float[Tensor, " B"] | int,
    ) -> Float[Tensor, "B 1 H W"]:
        """Returns the co-moving frame seen from the ego."""
        nil = torch.zeros_like(speed)
        comoving = torch.stack([speed * tick * self.dt, nil, nil], dim=-1)
        return move_view(frame, relative_pose(ego[:, :3], comoving), self.forward_model.spec)


def starting_state(obs: Obs, like: Tensor) -> Float[Tensor, "B 4"]:
    """Returns the newest ego state in its own planning frame: `(0, 0, 0, speed)`."""
    state = torch.zeros_like(obs.state[:, -1])
    state[:, 3] = obs.state[:, -1, 3]
    return state.to(like)
