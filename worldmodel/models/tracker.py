"""The eyes of a forward model that tells cars apart and measures how they move."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.models.memory import TrackedSeen
from worldmodel.models.tracking import label_cars, track_cars
from worldmodel.nn import Configured
from worldmodel.scene import RasterSpec

FASTEST = 20.0
"""Velocities relative to the co-moving frame are taken to be below this [m/s]."""
SCALE = 2.0
"""Velocity that the network is told of as one [m/s]."""


class CarTracker(Configured):
    """Measures the velocities of all cars in the history, and makes features of them.

    Strided convolutions read velocities off the pixels within some 0.3 m/s; this is ten times as exact, and
    what changes within the history are the accelerations. Nothing but the features is learnt.

    Args:
        channels: of the features.
        lags: older rasters it is shown.
    """

    def __init__(self, channels: int, *, lags: int = 3) -> None:
        super().__init__()
        self.lags = lags
        self.read = nn.Sequential(
            nn.Conv2d(2 * lags + 1, 2 * channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * channels, channels, 1),
        )

    def forward(
        self,
        frames: Float[Tensor, "B N H W"],
        seconds: Sequence[float],
        *,
        spec: RasterSpec,
        cell: tuple[int, int],
    ) -> tuple[TrackedSeen, Float[Tensor, "B C H2 W2"]]:
        """Returns the newest raster with what its cars do, and features of cells of `cell` pixels.

        Args:
            frames: vehicles in [0, 1], oldest first, all as seen from the co-moving frame of the newest.
            seconds: how long ago each was; falling, the last is 0.
            spec: of the rasters.

        Raises:
            ValueError: there are not `lags` older frames.
        """
        if frames.shape[1] != self.lags + 1:
            raise ValueError(
                f"the tracker compares the newest frame with {self.lags} older ones, the model reads "
                f"{frames.shape[1] - 1}; set its lags to that number, or choose history and history_stride so"
            )
        newest = frames[:, -1:]
        label = label_cars(newest)
        velocity = velocities(track_cars(frames, seconds, label), seconds, spec.resolution)
        told = torch.cat([velocity[:, :1], velocity[:, 1:] - velocity[:, :-1]], dim=1).flatten(1, 2) / SCALE
        features = self.read(_per_cell(told, newest, cell))
        return TrackedSeen(newest, label, velocity[:, 0]), features


def velocities(
    travelled: Float[Tensor, "B N 2 H W"], seconds: Sequence[float], resolution: float
) -> Float[Tensor, "B N 2 H W"]:
    """Returns the mean velocities between the rasters, the newest first [m/s].

    Args:
        travelled: since each of the older rasters, oldest first [px].
        seconds: how long ago these were, and 0 for the newest.
        resolution: [m/px]
    """
    since = F.pad(travelled.flip(1), (0, 0, 0, 0, 0, 0, 1, 0))  # of the newest: nothing
    ago = torch.tensor(list(seconds[::-1]), dtype=since.dtype, device=since.device).view(1, -1, 1, 1, 1)
    return ((since[:, 1:] - since[:, :-1]) * resolution / (ago[:, 1:] - ago[:, :-1])).clamp(-FASTEST, FASTEST)


def _per_cell(
    field: Float[Tensor, "B C H W"], image: Float[Tensor, "B 1 H W"], cell: tuple[int, int]
) -> Float[Tensor, "B C1 H2 W2"]:
    """Mean of a field over what is occupied of each cell, and how much that is."""
    fill = (0, -image.shape[-1] % cell[1], 0, -image.shape[-2] % cell[0])
    weight = F.pad(image + 1e-3, fill)
    mean = F.avg_pool2d(F.pad(field, fill) * weight, cell) / F.avg_pool2d(weight, cell).clamp_min(1e-6)
    return torch.cat([mean, F.avg_pool2d(F.pad(image, fill), cell)], dim=1)
