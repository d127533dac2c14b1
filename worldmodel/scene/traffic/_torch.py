"""The rules of traffic (`worldmodel.scene.traffic.rule`) in torch: all scenes at once, on any device.

Differentiable in states, drivers, noise and in where others drive to; decisions about lanes are not. Vehicles
of all scenes are counted through (`n = b V + i`), so that "who is ahead" is one look-up for any list of them.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from worldmodel.scene.geometry import boxes_overlap
from worldmodel.scene.kinematics import wrap_angle
from worldmodel.scene.traffic._torch_order import Lanes, Order, Surroundings
from worldmodel.scene.traffic.rule import (
    CHANGE_DELAY,
    END_MARGIN,
    LOOK_AHEAD,
    MAX_ACCEL,
    MAX_APPROACH,
    MAX_SIN_BETA,
    MAX_SPEED,
    MIN_CHANGE_SPEED,
    SMALLEST,
)
from worldmodel.scene.traffic.state import Drivers, TrafficState

SIN_APPROACH = math.sin(MAX_APPROACH)


@dataclass(frozen=True)
class Cars:
    """Columns of any list of vehicles; `limited` is the desired speed within the lane's limit."""

    scene: Tensor
    lane: Tensor
    exit: Tensor
    x: Tensor
    y: Tensor
    speed: Tensor
    cosine: Tensor
    sine: Tensor
    limited: Tensor
    length: Tensor
    headway: Tensor
    gap: Tensor
    accel: Tensor
    brake: Tensor
    delta: Tensor
    politeness: Tensor
    min_gain: Tensor
    safe_decel: Tensor
    own_decel: Tensor

    def free(self, judge: "Cars") -> Float[Tensor, " N"]:
        """Returns how each would accelerate on a free road with the parameters of `judge` [m/s^2]."""
        return judge.accel * (1.0 - (self.speed.clamp(min=0.0) / self.limited) ** judge.delta)

    def wanted_gap(self, front: "Cars", judge: "Cars") -> Float[Tensor, " N"]:
        """Returns `d*` behind `front` [m]."""
        closing = (self.speed * self.cosine - front.speed * front.cosine) * self.cosine
        closing = closing + (self.speed * self.sine - front.speed * front.sine) * self.sine
        least = judge.gap + (self.length + front.length) / 2
        return least + self.speed * judge.headway + self.speed * closing / judge.brake

    def stopped(self, lanes: Lanes, lane: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """Returns by how much the end of `lane` holds each back [m/s^2]."""
        left = lanes.stop[lane] - self.x
        wanted = self.gap + self.length / 2 + self.speed * self.headway
        wanted = wanted + self.speed * self.speed / self.brake
        held = self.accel * (wanted / left.clamp(SMALLEST, LOOK_AHEAD)) ** 2
        return torch.where((left > LOOK_AHEAD) | (self.exit == lane), 0.0, held)


class Traffic:
    """The vehicles of all scenes in one line."""

    def __init__(self, state: TrafficState, drivers: Drivers, lanes: Lanes) -> None:
        scene = torch.arange(len(state.x), device=state.x.device).repeat_interleave(state.num_vehicles)
        heading, lane = state.heading.flatten(), state.lane.flatten()
        desired = drivers.desired_speed.flatten().clamp(min=0.0).minimum(lanes.limit[lane])
        given = {name: getattr(drivers, name).flatten() for name in GIVEN}
        self.lanes, self.heading, self.timer = lanes, heading, state.timer.flatten()
        self.everyone = Cars(
            scene=scene,
            lane=lane,
            x=state.x.flatten(),
            y=state.y.flatten(),
            speed=state.speed.flatten(),
            cosine=heading.cos(),
            sine=heading.sin(),
            limited=desired.clamp(min=SMALLEST),
            brake=2.0 * (drivers.accel * drivers.decel).flatten().sqrt(),
            **given,
        )
        # One row for each, so that a look-up is one copy.
        self._rows = torch.stack([getattr(self.everyone, name) for name in REALS], dim=1)
        self._leaders = self._rows[:, : len(LEADER)].contiguous()

    def cars(self, who: Int[Tensor, " N"]) -> Cars:
        """Returns the columns of some; anybody's for `NOBODY`."""
        who = who.clamp(min=0)
        whole = {name: getattr(self.everyone, name)[who] for name in ("scene", "lane", "exit")}
        columns = self._rows.index_select(0, who).unbind(1)
        return Cars(**whole, **dict(zip(REALS, columns, strict=True)))

    def held_back(self, cars: Cars, front: Int[Tensor, " N"], judge: Cars) -> Float[Tensor, " N"]:
        """Returns by how much `front` holds `cars` back [m/s^2]; nothing where that is nobody."""
        columns = self._leaders.index_select(0, front.clamp(min=0)).unbind(1)
        leader = replace(cars, **dict(zip(LEADER, columns, strict=True)))
        distance = self.lanes.distance(cars.x, leader.x).clamp(min=SMALLEST)
        held = judge.accel * (cars.wanted_gap(leader, judge) / distance) ** 2
        return torch.where(front >= 0, held, 0.0)

    def following(self, who: Int[Tensor, " N"], front: Int[Tensor, " N"], judge: Cars) -> Tensor:
        """Returns the acceleration of `who` behind `front`; zero where `who` is nobody [m/s^2]."""
        cars = self.cars(who)
        return torch.where(who >= 0, cars.free(judge) - self.held_back(cars, front, judge), 0.0)


GIVEN = (
    "length",
    "headway",
    "gap",
    "accel",
    "delta",
    "politeness",
    "min_gain",
    "safe_decel",
    "own_decel",
    "exit",
)
"""What `Cars` takes from `Drivers` as it is."""
LEADER = ("x", "speed", "cosine", "sine", "length")
"""What matters of whoever is ahead."""
REALS = (
    *LEADER,
    *(
        "y",
        "limited",
        "headway",
        "gap",
        "accel",
        "brake",
        "delta",
        "politeness",
        "min_gain",
        "safe_decel",
        "own_decel",
    ),
)


def step(
    state: TrafficState,
    drivers: Drivers,
    lanes: Lanes,
    *,
    order: Order,
    is_driven: Bool[Tensor, "B V"],
    dt: float,
) -> TrafficState:
    """Returns the traffic one step later; who is driven by somebody else stays, collisions come after."""
    traffic = Traffic(state, drivers, lanes)
    around = Surroundings(state, order, lanes)
    moving = state.valid & ~is_driven
    acting = (moving & ~state.crashed).flatten()
    target, timer = _decide(state, drivers, traffic, around, acting=acting)
    accel, turn = _act(state, drivers, traffic, around, target)
    speed = state.speed
    straight = (1.0 - turn * turn).sqrt()
    cosine, sine = (part.view_as(speed) for part in (traffic.everyone.cosine, traffic.everyone.sine))
    x = state.x + speed * (cosine * straight - sine * turn) * dt
    if lanes.ring > 0:
        x = x - lanes.ring * ((x >= lanes.ring).to(x) - (x < 0).to(x))
    y = state.y + speed * (sine * straight + cosine * turn) * dt
    moved = {
        "x": x,
        "y": y,
        "heading": state.heading + speed * turn / (drivers.length / 2) * dt,
        "speed": (speed + accel * dt).maximum(drivers.slowest),
        "timer": timer + dt,
    }
    if not bool(moving.all()):
        moved = {name: torch.where(moving, value, getattr(state, name)) for name, value in moved.items()}
    return replace(state, **moved, lane=lanes.nearest(moved["x"], moved["y"]), target=target)


def place(state: TrafficState, lanes: Lanes, driven: Tensor, driven_to: Tensor) -> TrafficState:
    """Puts the `driven` vehicles (B, D) where whoever drives them says: (B, D, 4)."""
    x, y, heading, speed = (
        part.scatter(1, driven, to)
        for part, to in zip((state.x, state.y, state.heading, state.speed), driven_to.unbind(-1), strict=True)
    )
    lane = lanes.nearest(driven_to[..., 0], driven_to[..., 1])
    lane, target = state.lane.scatter(1, driven, lane), state.target.scatter(1, driven, lane)
    return replace(state, x=x, y=y, heading=heading, speed=speed, lane=lane, target=target)


def collide(state: TrafficState, drivers: Drivers, lanes: Lanes, order: Order) -> TrafficState:
    """Marks all vehicles whose boxes overlap."""
    state = replace(state, crashed=_collided(state, drivers, order))
    if lanes.ring > 0:  # once more with the seam on the far side
        x = (state.x + lanes.ring / 2) % lanes.ring
        turned = replace(state, x=x)
        state = replace(state, crashed=_collided(turned, drivers, Order.of(turned)))
    return state


def _decide(
    state: TrafficState, drivers: Drivers, traffic: Traffic, around: Surroundings, *, acting: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns targets and timers after the decisions about lanes, none of which has a gradient."""
    with torch.no_grad():
        lane, target = traffic.everyone.lane, state.target.flatten()
        is_changing = lane != target
        is_due = acting & drivers.changes.flatten() & ~is_changing & (traffic.timer > CHANGE_DELAY)
        who = is_due.nonzero().squeeze(1)
        wanted = target.clone()
        wanted[who] = _choose_lane(who, traffic, around)
        involved = (state.valid.flatten() & (wanted != lane)).nonzero().squeeze(1)
        gives_up = _gives_up(involved, traffic, wanted, is_changing=is_changing, acting=acting)
        given_up = involved[gives_up]
        wanted[given_up] = lane[given_up]
    timer = torch.where(is_due, 0.0, traffic.timer)
    return wanted.view_as(state.target), timer.view_as(state.timer)


def _choose_lane(who: Tensor, traffic: Traffic, around: Surroundings) -> Tensor:
    """Returns the lane each of `who` wants to be in; right is asked last and wins."""
    cars, lanes = traffic.cars(who), traffic.lanes
    must = _must_go(cars, lanes)
    may = (cars.speed.abs() >= MIN_CHANGE_SPEED) | (must != 0)
    chosen = cars.lane.clone()
    old_front = around.front(who, cars.scene, cars.lane)
    now = cars.free(cars) - traffic.held_back(cars, old_front, cars) - cars.stopped(lanes, cars.lane)
    for side in (-1, 1):
        lane = cars.lane + side
        is_there = may & (lane >= 0) & (lane < len(lanes.centre))
        lane = lane.clamp(0, len(lanes.centre) - 1)
        front, rear = around.front(who, cars.scene, lane), around.rear(who, cars.scene, lane)
        then = cars.free(cars) - traffic.held_back(cars, front, cars) - cars.stopped(lanes, lane)
        rear_then = traffic.following(rear, who, cars)
        gain = then - now
        if bool(cars.politeness.any()):
            old_rear = around.rear(who, cars.scene, cars.lane)
            others = rear_then - traffic.following(rear, front, cars)
            others = others + traffic.following(old_rear, old_front, cars)
            others = others - traffic.following(old_rear, who, cars)
            gain = gain + cars.politeness * others
        # A change that has to be made need not be worth it, and the other way is never taken.
        is_better = torch.where(must == side, then >= -cars.safe_decel, gain >= cars.min_gain)
        is_better &= is_there & (must != -side)
        is_better &= (rear_then >= -cars.safe_decel) & (then >= -cars.own_decel)
        chosen = torch.where(is_better & _is_reachable(cars, lane, side, lanes), lane, chosen)
    return chosen


def _must_go(cars: Cars, lanes: Lanes) -> Tensor:
    """Returns the side to which each has to change lanes by and by: -1 left, 1 right, 0 none."""
    must = torch.where(lanes.stop[cars.lane] - cars.x < LOOK_AHEAD, lanes.escape[cars.lane], 0)
    leave = cars.exit.clamp(min=0)
    is_near = (lanes.start[leave] - LOOK_AHEAD <= cars.x) & (cars.x < lanes.end[leave]) & (cars.exit >= 0)
    must = torch.where(is_near, (leave - cars.lane).sign(), must)
    return torch.where(cars.exit == cars.lane, 0, must)


def _is_reachable(cars: Cars, lane: Tensor, side: int, lanes: Lanes) -> Tensor:
    """Returns whether each may change to `lane`, and it is there and near."""
    is_near = (cars.y - lanes.centre[lane]).abs() <= 4 * lanes.half_width[lane]
    is_there = (cars.x >= lanes.start[lane]) & (cars.x < lanes.end[lane] + END_MARGIN)
    border = lane if side > 0 else cars.lane  # the crossing is that of the lane on the right
    is_open = (cars.x >= lanes.first_cross[border]) & (cars.x < lanes.last_cross[border])
    is_dead_end = (lanes.stop[lane] - cars.x < LOOK_AHEAD) & (lanes.escape[lane] == -side)
    return is_near & is_there & is_open & (~is_dead_end | (cars.exit == lane))


def _gives_up(
    involved: Tensor, traffic: Traffic, wanted: Tensor, *, is_changing: Tensor, acting: Tensor
) -> Tensor:
    """Returns who of those `involved` in lane changes gives up his.

    They decide in the order of their numbers: `i` yields to a nearer `j` ahead unless `j` has already given
    up, or has yet to begin. That is found by repetition until nothing changes, in a round or two.

    Args:
        involved: vehicles between lanes or about to be, by number `(C,)`.
        wanted: target lanes before anybody gives up, of all vehicles.
        is_changing: whether a vehicle has begun in an earlier step, of all.
        acting: whether it decides for itself, of all.
    """
    gives_up = torch.zeros_like(involved, dtype=torch.bool)
    i, j = _rivals(involved, traffic, wanted)
    has_begun = is_changing[involved]
    sees = (has_begun & acting[involved])[i] & (has_begun[j] | (j < i))
    i, j = i[sees], j[sees]
    cars, front = traffic.cars(involved[i]), traffic.cars(involved[j])
    distance = traffic.lanes.distance(cars.x, front.x)
    is_close = (distance > 0) & (distance < cars.wanted_gap(front, cars))
    i, j = i[is_close], j[is_close]
    while len(i):
        yields = i[(j > i) | ~gives_up[j]]
        latest = torch.zeros_like(gives_up).index_fill(0, yields, True)
        if torch.equal(latest, gives_up):
            break
        gives_up = latest
    return gives_up


def _rivals(involved: Tensor, traffic: Traffic, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Returns all ordered pairs of those `involved` who want the same lane of the same scene, by place."""
    aim = traffic.everyone.scene[involved] * len(traffic.lanes.centre) + wanted[involved]
    aim, place = aim.sort(stable=True)
    first, second = [], []
    for apart in range(1, len(aim)):
        same = (aim[apart:] == aim[:-apart]).nonzero().squeeze(1)
        if not len(same):
            break
        first.append(place[same])
        second.append(place[same + apart])
    none = place[:0]
    return torch.cat([none, *first, *second]), torch.cat([none, *second, *first])


def _act(
    state: TrafficState, drivers: Drivers, traffic: Traffic, around: Surroundings, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns acceleration and sine of the slip angle of everybody, (B, V) each."""
    cars, lanes, aim = traffic.everyone, traffic.lanes, target.flatten()
    numbers = torch.arange(len(aim), device=aim.device)
    held = traffic.held_back(cars, around.front(numbers, cars.scene, cars.lane), cars)
    who = (cars.lane != aim).nonzero().squeeze(1)
    some = traffic.cars(who)
    beside = traffic.held_back(some, around.front(who, some.scene, aim[who]), some)
    held = held.index_put((who,), held[who].maximum(beside))
    if bool(lanes.stop.isfinite().any()):
        held = held.maximum(cars.stopped(lanes, aim))
    accel = cars.free(cars) - held + (drivers.noise_std * state.noise).flatten()
    speed = _not_zero(cars.speed)
    approach = (lanes.centre[aim] - cars.y) / drivers.lateral_time.flatten() / speed
    approach = approach.clamp(-SIN_APPROACH, SIN_APPROACH).asin()
    rate = wrap_angle(approach - traffic.heading) / drivers.heading_time.flatten()
    turn = cars.length / 2 / speed * rate
    turn = turn.clamp(-MAX_SIN_BETA, MAX_SIN_BETA)
    crashed, accel = state.crashed.flatten(), accel.clamp(-MAX_ACCEL, MAX_ACCEL)
    accel, turn = torch.where(crashed, -cars.speed, accel), torch.where(crashed, 0.0, turn)
    accel = torch.where(cars.speed > MAX_SPEED, accel.minimum(MAX_SPEED - cars.speed), accel)
    accel = torch.where(cars.speed < -MAX_SPEED, accel.maximum(-MAX_SPEED - cars.speed), accel)
    return accel.view_as(state.x), turn.view_as(state.x)


@torch.no_grad()
def _collided(state: TrafficState, drivers: Drivers, order: Order) -> Tensor:
    """Returns who has crashed, (B, V): a sweep along the road, neighbours by place first."""
    B, V = state.x.shape
    diagonal = torch.where(state.valid, torch.hypot(drivers.length, drivers.width), 0.0)
    reach = float(diagonal.max()) if V else 0.0
    key, y = order.key, state.y.gather(1, order.vehicle)
    number = torch.arange(B, device=key.device)[:, None] * V + order.vehicle  # by place
    boxes = (state.x, state.y, state.heading, drivers.length, drivers.width)
    crashed = state.crashed.flatten().clone()
    for apart in range(1, V):
        is_near = key[:, apart:] - key[:, :-apart] <= reach
        if not bool(is_near.any()):
            break
        is_near &= (y[:, apart:] - y[:, :-apart]).abs() <= reach
        pair = torch.stack([number[:, :-apart][is_near], number[:, apart:][is_near]])
        first, second = torch.stack([part.flatten()[pair] for part in boxes], dim=-1)
        crashed[pair[:, boxes_overlap(first, second)].flatten()] = True
    return crashed.view_as(state.crashed)


def _not_zero(value: Tensor) -> Tensor:
    small = torch.where(value >= 0, SMALLEST, -SMALLEST)
    return torch.where(value.abs() > SMALLEST, value, small)
