"""What the driver sees -> features, for policies and for values."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from planners.policy.view import PolicyView
from worldmodel.scene.constant import constant

ROAD_SCALE = (1.0, 4.0, 0.05)
"""What 1 stands for in the road fields that enter the network: half width squared, [m], [rad]."""
EGO_SCALE = (10.0, 3.0, 3.0, 5.0, 2.0)
"""The same for speed, acceleration, sideways acceleration, length, width."""


class ViewEncoder(nn.Module):
    """A view -> features: patches, one strided convolution, and a perceptron that also reads road and ego.

    Args:
        shape: rows and columns of the rasters.
        num_points: of the road.
        patch: rows and columns embedded together; the raster is padded to multiples.
        channels: of the convolutions.
        features: that come out.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_points: int,
        *,
        patch: Sequence[int] = (3, 4),
        channels: int = 32,
        features: int = 128,
    ) -> None:
        super().__init__()
        self.patch = (int(patch[0]), int(patch[1]))
        rows, columns = (-(-size // step) for size, step in zip(shape, self.patch, strict=True))
        cells = -(-rows // 2) * -(-columns // 2)
        self.embed = nn.Conv2d(2, channels, self.patch, stride=self.patch)
        self.reduce = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.scene = nn.Linear(cells * channels, features)
        self.known = nn.Linear(3 * num_points + len(EGO_SCALE), features)
        self.mix = nn.Linear(features, features)

    def forward(self, view: PolicyView) -> Float[Tensor, "B F"]:
        """Returns the features."""
        seen = F.silu(self.reduce(F.silu(self.embed(self._pad(view.vehicles)))))
        known = torch.cat([_scaled_road(view).flatten(1), _scaled_ego(view)], dim=-1)
        hidden = F.silu(self.scene(seen.flatten(1)) + self.known(known))
        return F.silu(self.mix(hidden))

    def _pad(self, image: Float[Tensor, "B 2 H W"]) -> Float[Tensor, "B 2 H2 W2"]:
        down, right = (-size % step for size, step in zip(image.shape[-2:], self.patch, strict=True))
        return F.pad(image, (0, right, 0, down)) if down or right else image


def _scaled_road(view: PolicyView) -> Float[Tensor, "B P 3"]:
    return view.road / constant(ROAD_SCALE, view.road)


def _scaled_ego(view: PolicyView) -> Float[Tensor, "B 5"]:
    speed, accel, curvature, length, width = view.ego.unbind(-1)
    parts = torch.stack([speed, accel, curvature * speed.square(), length, width], dim=-1)
    return parts / constant(EGO_SCALE, parts)
