"""What a policy sees, built in one way from an observation and from imagined predictions.

A `Situation` holds the vehicle rasters of the last frames with the poses they are drawn at; it starts from an
`Obs` and grows by one `Prediction` for each action. `look` turns any situation into a `PolicyView`. Knows no
network and no world model.
"""

from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from planners.objective import last_action
from worldmodel.costs.placement import place
from worldmodel.models.view import move_view
from worldmodel.scene import Channel, RasterSpec, RoadChannel, relative_pose, sample_road, wrap_angle
from worldmodel.scene.constant import constant
from worldmodel.scene.raster import DEFAULT_SPEC
from worldmodel.types import Indexed, Obs, Prediction

VEHICLES = 0
"""Index of the vehicle channel among those that world models predict."""


@dataclass(frozen=True)
class ViewSpec:
    """How much of the world a policy sees, and how finely.

    Attributes:
        raster: of observations and predictions.
        lag: age of the older of its two rasters [frames].
        pool: rows and columns averaged into one; they must divide the raster's.
        ahead: where the road is sampled along the ego, from its centre [m].
        aside: and across it, to the left [m].
        dt: time between frames [s].
    """

    raster: RasterSpec = DEFAULT_SPEC
    lag: int = 5
    pool: tuple[int, int] = (3, 1)
    ahead: tuple[float, ...] = (-2.0, 2.0, 8.0, 18.0, 32.0)
    aside: tuple[float, ...] = (-1.2, 0.0, 1.2)
    dt: float = 0.1

    def __post_init__(self) -> None:
        if self.lag < 1:
            raise ValueError(f"lag={self.lag} frames, expected at least 1")
        if self.raster.height % self.pool[0] or self.raster.width % self.pool[1]:
            raise ValueError(
                f"pool={self.pool} does not divide a raster of {self.raster.height} x {self.raster.width}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the rasters in a view."""
        return self.raster.height // self.pool[0], self.raster.width // self.pool[1]

    @property
    def road_points(self) -> tuple[tuple[float, float], ...]:
        """Where the road is sampled, along and across the ego [m]."""
        return tuple(product(self.ahead, self.aside))


DEFAULT_VIEW = ViewSpec()


@dataclass(frozen=True)
class PolicyView(Indexed):
    """One moment, as seen by the driver.

    Attributes:
        vehicles: occupancy in [0, 1] now, from the ego's pose, and `lag` frames ago, from where the ego would
            have been had it driven as it does now: what has moved between the two moves relative to the ego.
        road: `RoadChannel` fields at `ViewSpec.road_points`; the heading is relative to the ego's.
        ego: speed [m/s], previous acceleration [m/s^2] and curvature [1/m], length and width [m].
    """

    vehicles: Float[Tensor, "B 2 H W"]
    road: Float[Tensor, "B P 3"]
    ego: Float[Tensor, "B 5"]

    def detach(self) -> "PolicyView":
        """Returns the same without its past."""
        return PolicyView(self.vehicles.detach(), self.road.detach(), self.ego.detach())


@dataclass(frozen=True)
class Situation:
    """What views are made of; everything in the planning frame of the observation it started from.

    Attributes:
        image: pooled vehicle rasters of the last `lag + 1` frames, newest last.
        pose: where each of them is drawn.
        ego: state now.
        previous_action: that led to it.
        size: of the ego [m].
        road: the patch of the observation.
    """

    image: tuple[Float[Tensor, "B 1 H W"], ...]
    pose: tuple[Float[Tensor, "B 3"], ...]
    ego: Float[Tensor, "B 4"]
    previous_action: Float[Tensor, "B 2"]
    size: Float[Tensor, "B 2"]
    road: Float[Tensor, "B R HR WR"]

    def detach(self) -> "Situation":
        """Returns the same without its past."""
        return Situation(
            tuple(one.detach() for one in self.image),
            tuple(one.detach() for one in self.pose),
            self.ego.detach(),
            self.previous_action.detach(),
            self.size,
            self.road,
        )


def situate(obs: Obs, spec: ViewSpec) -> Situation:
    """Returns the situation at the newest frame of an observation.

    Raises:
        ValueError: when the history is too short, or the rasters are not those of `spec`.
    """
    frames = spec.lag + 1
    expected = (len(spec.raster.channels), spec.raster.height, spec.raster.width)
    if obs.image.shape[1] < frames or tuple(obs.image.shape[2:]) != expected:
        raise ValueError(
            f"observation images have (K, C, H, W) = {tuple(obs.image.shape[1:])}, this policy needs at "
            f"least {frames} frames of {expected}"
        )
    channel = spec.raster.channels.index(Channel.VEHICLES)
    recent = obs.image[:, -frames:, channel].to(obs.size.dtype) / 255  # (B, K, H, W)
    pooled = F.avg_pool2d(recent, spec.pool).unsqueeze(2)
    now = obs.state[:, -1:]
    pose = relative_pose(obs.state[:, -frames:, :3], now).to(pooled)
    ego = torch.cat([torch.zeros_like(now[:, 0, :3]), now[:, 0, 3:]], dim=-1).to(pooled)
    previous = last_action(obs, spec.dt).to(pooled)
    road = obs.road.to(pooled)
    return Situation(pooled.unbind(1), pose.unbind(1), ego, previous, obs.size, road)


def proceed(
    situation: Situation, action: Float[Tensor, "B 2"], prediction: Prediction, *, spec: ViewSpec
) -> Situation:
    """Returns the situation one frame later, as the world model predicted it."""
    image = F.avg_pool2d(prediction.image[:, VEHICLES : VEHICLES + 1], spec.pool)
    return Situation(
        (*situation.image[1:], image),
        (*situation.pose[1:], prediction.view),
        prediction.ego,
        action,
        situation.size,
        situation.road,
    )


def look(situation: Situation, spec: ViewSpec) -> PolicyView:
    """Returns what the driver sees; differentiable in everything."""
    ego = situation.ego
    image = torch.cat([situation.image[-1], situation.image[0]])
    pose = torch.cat(
        [
            relative_pose(ego[:, :3], situation.pose[-1]),
            relative_pose(_trailing(ego, spec.lag * spec.dt), situation.pose[0]),
        ]
    )
    vehicles = torch.cat(move_view(image, pose, spec.raster).chunk(2), dim=1)
    return PolicyView(
        vehicles,
        _road_ahead(situation.road, ego, spec),
        torch.cat([ego[:, 3:], situation.previous_action, situation.size.to(ego)], dim=-1),
    )


def view_of(obs: Obs, spec: ViewSpec) -> PolicyView:
    """Returns what the driver sees at the newest frame of an observation."""
    return look(situate(obs, spec), spec)


def _trailing(ego: Float[Tensor, "B 4"], seconds: float) -> Float[Tensor, "B 3"]:
    """Where a vehicle that keeps speed and heading was so long ago."""
    x, y, heading, speed = ego.unbind(-1)
    travelled = speed * seconds
    return torch.stack([x - travelled * heading.cos(), y - travelled * heading.sin(), heading], dim=-1)


def _road_ahead(
    road: Float[Tensor, "B R HR WR"], ego: Float[Tensor, "B 4"], spec: ViewSpec
) -> Float[Tensor, "B P R"]:
    points = place(constant(spec.road_points, ego), ego)  # (B, P, 2)
    fields = sample_road(road, points)
    turn = wrap_angle(fields[..., RoadChannel.HEADING] - ego[:, 2:3])
    return torch.cat([fields[..., : RoadChannel.HEADING], turn.unsqueeze(-1)], dim=-1)
