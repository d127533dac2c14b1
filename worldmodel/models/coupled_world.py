"""The coupled model as a `WorldModel`: the network moves the ego too, and sees from where it has gone."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from worldmodel.models.coupled import CoupledModel, History
from worldmodel.models.ego_split import starting_state
from worldmodel.nn import Masks
from worldmodel.scene import compose_pose
from worldmodel.types import Indexed, Obs, Prediction, Rollout


@dataclass(frozen=True)
class CoupledHidden(Indexed):
    """What `CoupledWorld` carries from step to step.

    Attributes:
        image, motion: of the newest frames, observed or predicted (`History`).
        ego: state in the planning frame.
        size, road: of the observation.
    """

    image: Float[Tensor, "B K C H W"]
    motion: Float[Tensor, "B K 4"]
    ego: Float[Tensor, "B 4"]
    size: Float[Tensor, "B 2"]
    road: Float[Tensor, "B R HR WR"]

    @property
    def history(self) -> History:
        return History(self.image.unbind(1), self.motion.unbind(1))


class CoupledWorld(nn.Module):
    """PPUU's model, as planners and policies see it. Images are drawn at the predicted pose of the ego.

    Args:
        model: its parameters may be frozen.
        masks: locked dropout masks of this trajectory, or None for the mean model.

    Raises:
        ValueError: `model` is of another kind.

    Example:
        >>> CoupledWorld(CoupledModel(history=10, features=(16, 32, 64))).dt
        0.1
    """

    def __init__(self, model: CoupledModel, *, masks: Masks | None = None) -> None:
        super().__init__()
        if not isinstance(model, CoupledModel):
            raise ValueError(
                f"CoupledWorld needs a CoupledModel, got a {type(model).__name__}; train one with "
                "`worldmodel train model=coupled_small`, or use EgoSplit"
            )
        self.model, self.masks = model, masks

    @property
    def dt(self) -> float:
        return self.model.dt

    def init(self, obs: Obs) -> CoupledHidden:
        """Keeps the history as the network reads it."""
        history = self.model.observe(obs)
        ego = starting_state(obs, history.motion[-1])
        return _hidden(history, ego, size=obs.size.to(ego), road=obs.road.to(ego))

    def sample_latent(
        self, hidden: CoupledHidden, num_steps: int, generator: Generator | None = None
    ) -> Float[Tensor, "B T Z"]:
        """Draws latents from the prior given the observed history, one for each step.

        With a learnt prior that is exact at the first step only, as in `EgoSplit`.
        """
        if not self.model.latent.dim:
            return hidden.ego.new_zeros(hidden.ego.shape[0], num_steps, 0)
        code = self.model.encode(hidden.history)
        return torch.stack([self.model.sample_prior(code, generator) for _ in range(num_steps)], dim=1)

    def step(
        self, hidden: CoupledHidden, action: Float[Tensor, "B 2"], latent: Float[Tensor, "B Z"]
    ) -> tuple[CoupledHidden, Prediction]:
        """Predicts the next frame and where the ego is then."""
        drive = self.model.encode_actions(action.unsqueeze(1), self.masks)[:, 0]
        history, prediction = self._step(hidden.history, hidden.ego, drive, latent)
        return _hidden(history, prediction.ego, size=hidden.size, road=hidden.road), prediction

    def unroll(
        self, hidden: CoupledHidden, action: Float[Tensor, "B T 2"], latent: Float[Tensor, "B T Z"]
    ) -> Rollout:
        """Equals `step` repeated, with all actions encoded in one call."""
        drive, found = self.model.encode_actions(action, self.masks), []
        history, ego = hidden.history, hidden.ego
        for tick in range(action.shape[1]):
            history, prediction = self._step(history, ego, drive[:, tick], latent[:, tick])
            ego = prediction.ego
            found.append(prediction)
        states = torch.stack([one.ego for one in found], dim=1)
        return Rollout(
            image=torch.stack([one.image for one in found], dim=1),
            ego=states,
            view=states[..., :3],
            action=action,
            previous_action=torch.zeros_like(action[:, 0]),
            size=hidden.size,
            road=hidden.road,
        )

    def _step(
        self, history: History, ego: Float[Tensor, "B 4"], drive: Tensor, latent: Float[Tensor, "B Z"]
    ) -> tuple[History, Prediction]:
        code = self.model.encode(history, self.masks)
        logits, motion = self.model.advance(history, code, drive, latent, self.masks)
        image, ego = logits.sigmoid(), compose_pose(motion, ego)
        return history.then(image, motion), Prediction(image=image, ego=ego, view=ego[:, :3])


def _hidden(history: History, ego: Tensor, *, size: Tensor, road: Tensor) -> CoupledHidden:
    image, motion = (torch.stack(part, dim=1) for part in (history.image, history.motion))
    return CoupledHidden(image, motion, ego, size, road)
