"""What a forward model keeps of an observation, and how it lets what it saw move."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from worldmodel.models.tracking import mean_over_cars
from worldmodel.models.view import pool_over_cars
from worldmodel.scene import RasterSpec
from worldmodel.types import Indexed


@dataclass(frozen=True)
class Seen(Indexed):
    """The newest raster, whose cars are known by being about a car's size; at first they keep their offset.

    Attributes:
        image: vehicles, in [0, 1].
    """

    image: Float[Tensor, "B 1 H W"]

    def whole(self, motion: Float[Tensor, "B P H W"], spec: RasterSpec) -> Float[Tensor, "B P H W"]:
        """Returns motions of pixels, those of a car alike."""
        return pool_over_cars(motion, self.image, spec)

    def coast(self, motion: Float[Tensor, "B *S 2 H W"], seconds: Tensor | float) -> Tensor:
        """Returns a motion of pixels plus how far they get if everybody just goes on.

        Args:
            motion: displacements [m], or velocities: what is travelled in a second.
            seconds: that this takes, `(*S, 1, 1, 1)` or one for all.
        """
        return motion


@dataclass(frozen=True)
class TrackedSeen(Seen):
    """The newest raster, whose cars are told apart; at first they keep the velocity that was measured.

    Attributes:
        label: which car each pixel belongs to (`label_cars`).
        velocity: of that car relative to the co-moving frame, ahead and leftwards [m/s].
    """

    label: Int64[Tensor, "B H W"]
    velocity: Float[Tensor, "B 2 H W"]

    def whole(self, motion: Float[Tensor, "B P H W"], spec: RasterSpec) -> Float[Tensor, "B P H W"]:
        return mean_over_cars(motion, self.image, self.label)

    def coast(self, motion: Float[Tensor, "B *S 2 H W"], seconds: Tensor | float) -> Tensor:
        own = self.velocity.view(-1, *[1] * (motion.dim() - 4), *self.velocity.shape[1:])
        return motion + own * seconds


@dataclass(frozen=True)
class Memory(Indexed):
    """What the encoder keeps of an observation.

    Attributes:
        features: hidden map.
        seen: the newest raster of the vehicles.
        speed: of the ego when it was observed: that of the co-moving frame [m/s].
    """

    features: Float[Tensor, "B C H W"]
    seen: Seen
    speed: Float[Tensor, " B"]

    def repeat(self, times: int) -> "Memory":
        """Returns every row `times` times, consecutively."""
        return self[torch.arange(len(self.speed), device=self.speed.device).repeat_interleave(times)]


@dataclass(frozen=True)
class Drift(Indexed):
    """How the content of the newest raster moves, cell by cell, when a core step is over.

    That is what the core makes of it; tracked cars go on at their own velocity besides (`Seen.coast`).

    Attributes:
        velocity: ahead and leftwards, relative to the co-moving frame [m/s].
        travelled: since the newest raster [m].
        seconds: since the newest raster.
    """

    velocity: Float[Tensor, "B 2 H W"]
    travelled: Float[Tensor, "B 2 H W"]
    seconds: float = 0.0

    def detach(self) -> "Drift":
        """Returns the same without gradient."""
        return self._map(torch.Tensor.detach)
