"""Who is where, in torch: lanes, vehicles in their order, and who is ahead and behind on which lane."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from worldmodel.scene.traffic._car import LANE
from worldmodel.scene.traffic.road import TrafficRoad
from worldmodel.scene.traffic.rule import END_MARGIN, LANE_MARGIN
from worldmodel.scene.traffic.state import TrafficState

NOBODY = -1


@dataclass(frozen=True)
class Lanes:
    """`TrafficRoad.table` as tensors, and the length of the ring (0: none)."""

    centre: Float[Tensor, " L"]
    half_width: Float[Tensor, " L"]
    start: Float[Tensor, " L"]
    end: Float[Tensor, " L"]
    stop: Float[Tensor, " L"]
    limit: Float[Tensor, " L"]
    first_cross: Float[Tensor, " L"]
    last_cross: Float[Tensor, " L"]
    escape: Int[Tensor, " L"]
    ring: float

    @classmethod
    def of(cls, road: TrafficRoad, like: Tensor) -> "Lanes":
        """Returns the lanes of `road` on the device and in the type of `like`."""
        table = {name: torch.from_numpy(road.table[name].copy()) for name in LANE.names or ()}
        escape = table.pop("escape").to(like.device)
        length = road.length if road.is_ring else 0.0
        return cls(**{name: value.to(like) for name, value in table.items()}, escape=escape, ring=length)

    def nearest(self, x: Float[Tensor, "*B"], y: Float[Tensor, "*B"]) -> Int[Tensor, "*B"]:
        """Returns the nearest lane of every position."""
        x, y = x.detach().unsqueeze(-1), y.detach().unsqueeze(-1)
        beyond = (x - self.end).clamp(min=0) + (self.start - x).clamp(min=0)
        return ((y - self.centre).abs() + beyond).argmin(-1)

    def distance(self, x: Float[Tensor, "*B"], front: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Returns how far `front` is ahead along the road [m]."""
        ahead = front - x
        return torch.where(ahead < 0, ahead + self.ring, ahead) if self.ring > 0 else ahead


@dataclass(frozen=True)
class Order:
    """Vehicles along the road: who is at which place, and the nearest place on each lane from each.

    Attributes:
        vehicle: by place; of vehicles at the same `x` the last first, as in the kernel.
        place: by vehicle.
        level: first place with the same `x`, by place.
        key: `x` by place, infinite where there is nobody.
    """

    vehicle: Int[Tensor, "B V"]
    place: Int[Tensor, "B V"]
    level: Int[Tensor, "B V"]
    key: Float[Tensor, "B V"]

    @classmethod
    def of(cls, state: TrafficState) -> "Order":
        """Sorts the vehicles."""
        B, V = state.x.shape
        x = torch.where(state.valid, state.x.detach(), math.inf)
        key, index = torch.sort(x.flip(1), dim=1, stable=True)
        vehicle = V - 1 - index
        places = torch.arange(V, device=x.device).expand(B, V)
        place = torch.empty_like(vehicle).scatter_(1, vehicle, places)
        is_new = torch.ones_like(state.valid)
        is_new[:, 1:] = key[:, 1:] != key[:, :-1]
        return cls(vehicle, place, torch.where(is_new, places, 0).cummax(1).values, key)


class Surroundings:
    """Who is ahead and behind, for any list of vehicles and lanes."""

    def __init__(self, state: TrafficState, order: Order, lanes: Lanes) -> None:
        V = state.num_vehicles
        x, y = order.key.unsqueeze(1), state.y.detach().gather(1, order.vehicle).unsqueeze(1)
        is_on = (y - lanes.centre[:, None]).abs() <= (lanes.half_width + LANE_MARGIN)[:, None]
        is_on &= (x >= lanes.start[:, None] - END_MARGIN) & (x < (lanes.end + END_MARGIN)[:, None])
        places = torch.arange(V, device=x.device)
        ahead = torch.where(is_on, places, V).flip(2).cummin(2).values.flip(2)  # (B, L, V)
        behind = torch.where(is_on, places, NOBODY).cummax(2).values
        # One column more: nobody is ahead of the last place, nor behind the first.
        self._ahead = F.pad(ahead, (0, 1), value=V).flatten()
        self._behind = F.pad(behind, (1, 0), value=NOBODY).flatten()
        self._vehicle = order.vehicle.flatten()
        self._place, self._level = order.place.flatten(), order.level.gather(1, order.place).flatten()
        self._is_strict = bool((order.level == places).all())  # nobody is level with anybody
        self._num_lanes, self._num_vehicles, self._ring = len(lanes.centre), V, lanes.ring

    def front(self, who: Int[Tensor, " N"], scene: Int[Tensor, " N"], lane: Int[Tensor, " N"]) -> Tensor:
        """Returns the vehicle ahead of each of `who` on `lane`, level ones included, or `NOBODY`."""
        V, place = self._num_vehicles, self._place[who]
        row = (scene * self._num_lanes + lane) * (V + 1)
        front = self._ahead[row + place + 1]
        if not self._is_strict:
            level = self._ahead[row + self._level[who]]
            front = torch.where(level == place, front, level)
        if self._ring > 0:
            front = torch.where(front == V, self._ahead[row], front)
            front = torch.where(front == place, V, front)
        return torch.where(front < V, scene * V + self._at(scene, front), NOBODY)

    def rear(self, who: Int[Tensor, " N"], scene: Int[Tensor, " N"], lane: Int[Tensor, " N"]) -> Tensor:
        """Returns the vehicle behind each of `who` on `lane`, or `NOBODY`."""
        V, row = self._num_vehicles, (scene * self._num_lanes + lane) * (self._num_vehicles + 1)
        rear = self._behind[row + self._level[who]]
        if self._ring > 0:
            rear = torch.where(rear == NOBODY, self._behind[row + V], rear)
            rear = torch.where(rear == self._place[who], NOBODY, rear)
        return torch.where(rear >= 0, scene * V + self._at(scene, rear), NOBODY)

    def _at(self, scene: Tensor, place: Tensor) -> Tensor:
        V = self._num_vehicles
        return self._vehicle[scene * V + place.clamp(0, V - 1)]
