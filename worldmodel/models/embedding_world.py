"""A world model in the space of embeddings: a JEPA that planners can use.

Frames are encoded, maps are predicted under the ego's actions, and nothing is decoded but what costs have to
see: a frozen read-out of the vehicles. All is seen from the ego, so the view follows it, and what an action
does to the view the transition has to have learnt.

    h[k+1] = g(h[k-1], h[k], a[k]),   vehicles = sigmoid(ReadOut(h))

A step of the transition is `spacing` ticks long, under their mean action. The rasters between two steps are
those of the nearer one, looked at from where the ego is: relative positions change little in that time.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from worldmodel.models.checkpoint import CheckpointError, load_model, read_checkpoint
from worldmodel.models.ego_split import starting_state
from worldmodel.models.view import check_images
from worldmodel.nn import MapDecoder, Transition, encode
from worldmodel.scene import Channel, RasterSpec, kinematics
from worldmodel.types import Indexed, Obs, Prediction, Rollout


@dataclass(frozen=True)
class EmbeddingHidden(Indexed):
    """What `EmbeddingWorld` carries from step to step.

    Attributes:
        maps: the last two, newest last.
        image: vehicles that the newest map says, in [0, 1].
        start, ego: ego state in the planning frame when observed, and now.
        size, road: of the observation.
        pending: sum of the actions since the newest map.
        tick: steps since the observation.
    """

    maps: Float[Tensor, "B 2 F H W"]
    image: Float[Tensor, "B 1 H0 W0"]
    start: Float[Tensor, "B 4"]
    ego: Float[Tensor, "B 4"]
    size: Float[Tensor, "B 2"]
    road: Float[Tensor, "B R HR WR"]
    pending: Float[Tensor, "B 2"]
    tick: int = 0


class EmbeddingWorld(nn.Module):
    """Encoder, transition and read-out as one `WorldModel`; deterministic.

    Args:
        encoder: frame -> map.
        transition: the last two maps and the action -> the next.
        read_out: map -> logits of the vehicles.
        spacing: ticks of a step of the transition.
        spec: the rasters it reads.
        dt: of a tick [s].
    """

    predicts = (Channel.VEHICLES,)

    def __init__(
        self,
        encoder: nn.Module,
        transition: Transition,
        read_out: MapDecoder,
        *,
        spacing: int = 5,
        spec: RasterSpec | None = None,
        dt: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder, self.transition, self.read_out = encoder, transition, read_out
        self.spacing, self.spec, self._dt = spacing, spec or RasterSpec(), dt

    @property
    def dt(self) -> float:
        return self._dt

    def init(self, obs: Obs) -> EmbeddingHidden:
        """Encodes the newest frame and the one a step before."""
        first = -1 - self.spacing
        recent = replace(obs, image=obs.image[:, first:], state=obs.state[:, first:])
        check_images(recent, self.spacing + 1, self.spec)
        frames = recent.image[:, [0, -1]]
        like = next(self.transition.parameters())
        pixels = frames.to(like) / 255
        maps = encode(self.encoder, pixels.flatten(0, 1)).unflatten(0, (-1, 2))
        channel = self.spec.channels.index(Channel.VEHICLES)
        start = starting_state(obs, maps)
        return EmbeddingHidden(
            maps=maps,
            image=pixels[:, 1, channel : channel + 1],
            start=start,
            ego=start,
            size=obs.size.to(start),
            road=obs.road.to(start),
            pending=start[:, :2] * 0,
        )

    def sample_latent(
        self, hidden: EmbeddingHidden, num_steps: int, generator: Generator | None = None
    ) -> Float[Tensor, "B T 0"]:
        """Returns nothing: this world has no latent."""
        return hidden.maps.new_zeros(len(hidden.maps), num_steps, 0)

    def step(
        self, hidden: EmbeddingHidden, action: Float[Tensor, "B 2"], latent: Float[Tensor, "B Z"]
    ) -> tuple[EmbeddingHidden, Prediction]:
        """Moves the ego by one tick and, at the middle of each step, the embedding by a step.

        Half of a step's actions are not known then; the mean of those that are stands for all.
        """
        ego = kinematics.step(hidden.ego, action, self.dt)
        hidden = replace(hidden, ego=ego, tick=hidden.tick + 1, pending=hidden.pending + action)
        if (hidden.tick - self.ticks_before) % self.spacing == 0:
            maps = self.advance(hidden.maps, hidden.pending / self.ticks_before)
            hidden = replace(hidden, maps=maps, image=self.vehicles(maps[:, 1]))
        if hidden.tick % self.spacing == 0:  # after its use: both fall on one tick where spacing is 1 or 2
            hidden = replace(hidden, pending=torch.zeros_like(hidden.pending))
        return hidden, Prediction(image=hidden.image, ego=ego, view=ego[:, :3])

    def unroll(
        self, hidden: EmbeddingHidden, action: Float[Tensor, "B T 2"], latent: Float[Tensor, "B T Z"]
    ) -> Rollout:
        """Equals `step` repeated from a fresh `hidden`, with all rasters read out in one call."""
        batch, horizon = action.shape[:2]
        ego = kinematics.rollout(hidden.start, action, self.dt)
        maps, found = hidden.maps, []
        for first in range(0, horizon - self.ticks_before + 1, self.spacing):
            maps = self.advance(maps, action[:, first : first + self.ticks_before].mean(1))
            found.append(maps[:, 1])
        images = hidden.image.unsqueeze(1)
        if found:
            seen = self.vehicles(torch.stack(found, dim=1).flatten(0, 1))
            images = torch.cat([images, seen.unflatten(0, (batch, -1))], dim=1)
        ticks = torch.arange(1, horizon + 1, device=action.device)
        nearest = (ticks - self.ticks_before).div(self.spacing, rounding_mode="floor") + 1
        return Rollout(
            image=images[:, nearest],
            ego=ego,
            view=ego[..., :3],
            action=action,
            previous_action=torch.zeros_like(action[:, 0]),
            size=hidden.size,
            road=hidden.road,
        )

    @property
    def ticks_before(self) -> int:
        """Ticks of a step before its raster is the nearer one."""
        return self.spacing // 2 + 1

    def advance(
        self, maps: Float[Tensor, "B 2 F H W"], action: Float[Tensor, "B 2"]
    ) -> Float[Tensor, "B 2 F H W"]:
        """Returns the newer map and the one that follows under an action."""
        following = self.transition(maps, action)
        return torch.stack([maps[:, 1], following], dim=1)

    def vehicles(self, cells: Float[Tensor, "B F H W"]) -> Float[Tensor, "B 1 H0 W0"]:
        """Returns the occupancy that maps say."""
        logits = self.read_out(cells)
        return logits[..., : self.spec.height, : self.spec.width].sigmoid()


def load_embedding_world(path: str | Path) -> EmbeddingWorld:
    """Returns the world of a checkpoint of `worldmodel pretrain ssl=jepa_world`, frozen.

    Raises:
        CheckpointError: the file holds something else.
    """
    model, extra = load_model(path), read_checkpoint(path)["extra"]
    terms = getattr(getattr(model, "objective", None), "terms", {})
    if not {"predict", "read_out"} <= set(terms):
        raise CheckpointError(
            path,
            "holds no world of embeddings; expected a checkpoint of `worldmodel pretrain ssl=jepa_world`, "
            "whose objective has the terms predict and read_out",
        )
    assert isinstance(model.encoder, nn.Module)
    world = EmbeddingWorld(
        model.encoder,
        terms["predict"].transition,
        terms["read_out"].decoder,
        spacing=int(extra["spacing"]),
    )
    return world.eval().requires_grad_(False)
