"""What the driver sees -> features, for policies and for values."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from planners.policy.view import PolicyView
from worldmodel.nn import encode
from worldmodel.scene.constant import constant

ROAD_SCALE = (1.0, 4.0, 0.05)
"""What 1 stands for in the road fields that enter the network: half width squared, [m], [rad]."""
EGO_SCALE = (10.0, 3.0, 3.0, 5.0, 2.0)
"""The same for speed, acceleration, sideways acceleration, length, width."""


class Patches(nn.Conv2d):
    """Both rasters of a view -> a map: patches embedded together, filled up below and on the right."""

    def __init__(self, channels: int, patch: tuple[int, int]) -> None:
        super().__init__(2, channels, patch, stride=patch)

    def forward(self, vehicles: Float[Tensor, "B 2 H W"]) -> Float[Tensor, "B C H2 W2"]:
        along, across = self.stride
        height, width = vehicles.shape[-2:]
        down, right = -height % along, -width % across
        return super().forward(F.pad(vehicles, (0, right, 0, down)) if down or right else vehicles)


class FrameMaps(nn.Module):
    """Both rasters of a view -> a map: those of an encoder of single frames, one behind the other.

    Args:
        encoder: of rasters of one channel, the vehicles (`worldmodel pretrain channels=[vehicles]`); it sees
            the view as finely as `ViewSpec.pool` leaves it.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, vehicles: Float[Tensor, "B 2 H W"]) -> Float[Tensor, "B C H2 W2"]:
        apart = encode(self.encoder, vehicles.flatten(0, 1).unsqueeze(1))
        together: Tensor = apart.unflatten(0, (-1, 2)).flatten(1, 2)
        return together


class ViewEncoder(nn.Module):
    """A view -> features: a map, one strided convolution, and a perceptron that also reads road and ego.

    Args:
        shape: rows and columns of the rasters.
        num_points: of the road.
        frame_encoder: makes the map, see `FrameMaps`; None embeds patches.
        patch: rows and columns embedded together; the raster is padded to multiples.
        channels: of the convolutions.
        features: that come out.

    Raises:
        ValueError: the frame encoder cannot read such rasters.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_points: int,
        *,
        frame_encoder: nn.Module | None = None,
        patch: Sequence[int] = (3, 4),
        channels: int = 32,
        features: int = 128,
    ) -> None:
        super().__init__()
        self.embed = (
            FrameMaps(frame_encoder) if frame_encoder else Patches(channels, (int(patch[0]), int(patch[1])))
        )
        found, rows, columns = _map_shape(self.embed, shape)
        self.reduce = nn.Conv2d(found, channels, 3, stride=2, padding=1)
        self.scene = nn.Linear(-(-rows // 2) * -(-columns // 2) * channels, features)
        self.known = nn.Linear(3 * num_points + len(EGO_SCALE), features)
        self.mix = nn.Linear(features, features)

    def forward(self, view: PolicyView) -> Float[Tensor, "B F"]:
        """Returns the features."""
        seen = F.silu(self.reduce(F.silu(self.embed(view.vehicles))))
        known = torch.cat([_scaled_road(view).flatten(1), _scaled_ego(view)], dim=-1)
        hidden = F.silu(self.scene(seen.flatten(1)) + self.known(known))
        return F.silu(self.mix(hidden))


def _map_shape(embed: nn.Module, shape: Sequence[int]) -> tuple[int, int, int]:
    """Returns channels, rows and columns of the map of such rasters."""
    like = next(embed.parameters(), torch.zeros(()))  # an encoder need not have learnt anything
    try:
        with torch.no_grad():
            channels, rows, columns = embed(like.new_zeros(1, 2, *shape)).shape[1:]
    except RuntimeError as error:
        raise ValueError(
            f"the frame encoder cannot read rasters of one channel and {tuple(shape)} pixels ({error}); "
            "take one of `worldmodel pretrain channels=[vehicles] encoder.in_channels=1`"
        ) from error
    return channels, rows, columns


def _scaled_road(view: PolicyView) -> Float[Tensor, "B P 3"]:
    return view.road / constant(ROAD_SCALE, view.road)


def _scaled_ego(view: PolicyView) -> Float[Tensor, "B 5"]:
    speed, accel, curvature, length, width = view.ego.unbind(-1)
    parts = torch.stack([speed, accel, curvature * speed.square(), length, width], dim=-1)
    return parts / constant(EGO_SCALE, parts)
