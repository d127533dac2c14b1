"""The same traffic twice: in highway-env's objects and in ours."""

import numpy as np
import torch
from highway_env.road.road import Road, RoadNetwork
from highway_env.vehicle.behavior import IDMVehicle

from worldmodel.scene.traffic import Drivers, TrafficRoad, TrafficState

DT = 0.1
LANES = 4


def make_road() -> TrafficRoad:
    """highway-env's straight road."""
    return TrafficRoad.straight(num_lanes=LANES)


def make_highway(seed: int, num_vehicles: int, *, spacing: float = 1.0) -> Road:
    """highway-v0's traffic, in a mixture of speeds, so that lanes are changed."""
    rng = np.random.default_rng(seed)
    road = Road(RoadNetwork.straight_road_network(LANES, speed_limit=30), np_random=rng)
    for _ in range(num_vehicles):
        car = IDMVehicle.create_random(road, speed=rng.uniform(18, 28), spacing=spacing)
        car.target_speed = rng.uniform(18, 34)
        car.randomize_behavior()
        road.vehicles.append(car)
    return road


def to_traffic(road: Road) -> tuple[TrafficState, Drivers]:
    """highway-env's traffic as ours, in float64; `y` and headings change their signs."""
    cars = road.vehicles

    def column(values: list) -> torch.Tensor:
        return torch.tensor([values], dtype=torch.float64)

    state = TrafficState(
        x=column([car.position[0] for car in cars]),
        y=column([-car.position[1] for car in cars]),
        heading=column([-car.heading for car in cars]),
        speed=column([car.speed for car in cars]),
        lane=torch.tensor([[car.lane_index[2] for car in cars]]),
        target=torch.tensor([[car.target_lane_index[2] for car in cars]]),
        timer=column([car.timer for car in cars]),
        noise=column([0.0] * len(cars)),
        valid=torch.ones(1, len(cars), dtype=torch.bool),
        crashed=torch.tensor([[car.crashed for car in cars]]),
        order=torch.arange(len(cars))[None],
    )
    desired = column([car.target_speed for car in cars])
    return state, Drivers.alike(desired, delta=column([car.DELTA for car in cars]))


def has_touched(road: Road) -> bool:
    """Whether highway-env has found a collision, or one that is about to be; then it moves cars apart."""
    return any(car.crashed or car.impact is not None for car in road.vehicles)


def step_highway(road: Road) -> None:
    road.act()
    road.step(DT)


def make_traffic(
    num_scenes: int,
    num_vehicles: int,
    *,
    seed: int = 0,
    gap: float = 25.0,
    dtype: torch.dtype = torch.float64,
) -> tuple[TrafficState, Drivers]:
    """Cars of differing speeds, about `gap` behind one another whatever their lane."""
    g = torch.Generator().manual_seed(seed)
    shape = (num_scenes, num_vehicles)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(shape, generator=g, dtype=torch.float64).mul(high - low).add(low).to(dtype)

    x = 100.0 + torch.cumsum(uniform(0.8 * gap, 1.2 * gap), 1)
    lane = torch.randint(0, LANES, shape, generator=g)
    centre = torch.from_numpy(make_road().centre)
    state = TrafficState.on_lanes(x, lane, uniform(18.0, 28.0), centre=centre, timer=uniform(0.0, 1.0))
    return state, Drivers.alike(uniform(18.0, 34.0), delta=uniform(3.5, 4.5))
