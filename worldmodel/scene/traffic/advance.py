"""Traffic some steps ahead, whole batches at a time: by numba on the CPU, by torch anywhere."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodel.scene.traffic._car import CAR, DRIVER, STATE
from worldmodel.scene.traffic._kernel import advance_scenes
from worldmodel.scene.traffic._torch import collide, place, step
from worldmodel.scene.traffic._torch_order import Lanes, Order
from worldmodel.scene.traffic.road import TrafficRoad
from worldmodel.scene.traffic.rule import NOISE_TIME
from worldmodel.scene.traffic.state import Drivers, TrafficState


def advance(
    state: TrafficState,
    drivers: Drivers,
    road: TrafficRoad,
    *,
    num_steps: int = 1,
    dt: float = 0.1,
    noise: Float[Tensor, "B T V"] | None = None,
    driven: Int[Tensor, "B D"] | None = None,
    driven_to: Float[Tensor, "B T D 4"] | None = None,
    num_threads: int = 1,
) -> TrafficState:
    """Returns the traffic `num_steps` later; the arguments stay as they are. Not differentiable.

    Args:
        num_steps: ignored where `driven_to` says how many.
        dt: [s]
        noise: standard normal numbers, what drivers misjudge at each step; None: nothing.
        driven: rows of vehicles that somebody else drives. The others react to them, and take
            `drivers.desired_speed` for the speed that they want.
        driven_to: where those are after each step: `x, y, heading, speed`, in the road's coordinates.
        num_threads: the scenes are shared out among them.

    Example:
        >>> road = TrafficRoad.straight(num_lanes=2)
        >>> x, lane = torch.tensor([[100.0, 130.0]]), torch.tensor([[0, 0]])
        >>> centre = torch.from_numpy(road.centre)
        >>> state = TrafficState.on_lanes(x, lane, torch.tensor([[25.0, 15.0]]), centre=centre)
        >>> later = advance(state, Drivers.alike(torch.full((1, 2), 30.0)), road, num_steps=100)
        >>> later.lane.tolist()
        [[1, 0]]
    """
    B, V = state.x.shape
    if driven is None or driven_to is None:
        driven, driven_to = state.lane.new_zeros(B, 0), state.x.new_zeros(B, num_steps, 0, 4)
    noise = state.x.new_zeros(B, 0, V) if noise is None else noise
    check_inputs(state, drivers, driven_to, noise)
    cars, order = np.zeros((B, V), CAR), state.order.numpy().copy()
    for part in (state, drivers):
        for name in _fields(part):
            cars[name] = getattr(part, name).detach().numpy()
    given = [one.detach().double().contiguous().numpy() for one in (driven_to, noise)]
    rows, ring = driven.contiguous().numpy(), road.length if road.is_ring else 0.0

    def run(scenes: slice) -> None:
        there, misjudged = (one[scenes] for one in given)
        advance_scenes(cars[scenes], order[scenes], road.table, ring, rows[scenes], there, misjudged, dt)

    share = -(-B // num_threads)
    slices = [slice(first, first + share) for first in range(0, B, share)]
    if len(slices) == 1:
        run(slices[0])
    else:
        with ThreadPoolExecutor(len(slices)) as pool:
            list(pool.map(run, slices))
    moved = {name: torch.from_numpy(cars[name].copy()).to(getattr(state, name)) for name in STATE}
    return TrafficState(**moved, order=torch.from_numpy(order))


def advance_torch(
    state: TrafficState,
    drivers: Drivers,
    road: TrafficRoad,
    *,
    num_steps: int = 1,
    dt: float = 0.1,
    noise: Float[Tensor, "B T V"] | None = None,
    driven: Int[Tensor, "B D"] | None = None,
    driven_to: Float[Tensor, "B T D 4"] | None = None,
) -> TrafficState:
    """As `advance`, on the device of `state` and in its type; differentiable but for lane decisions.

    In float64 both give the same; in float32 a timer may run out a step earlier or later, after which the
    two drives part.
    """
    B, V = state.x.shape
    if driven is None or driven_to is None:
        driven, driven_to = state.lane.new_zeros(B, 0), state.x.new_zeros(B, num_steps, 0, 4)
    check_inputs(state, drivers, driven_to, state.x.new_zeros(B, 0, V) if noise is None else noise)
    lanes = Lanes.of(road, state.x)
    is_driven = torch.zeros_like(state.valid).scatter_(1, driven, True)
    keep = math.exp(-dt / NOISE_TIME)
    order = Order.of(state)
    for t in range(driven_to.shape[1]):
        if noise is not None:
            fresh = math.sqrt(1.0 - keep**2) * noise[:, t]
            state = replace(state, noise=keep * state.noise + fresh)
        state = step(state, drivers, lanes, order=order, is_driven=is_driven, dt=dt)
        state = place(state, lanes, driven, driven_to[:, t])
        order = Order.of(state)
        state = collide(state, drivers, lanes, order)
    return replace(state, order=order.vehicle)


def check_inputs(state: TrafficState, drivers: Drivers, driven_to: Tensor, noise: Tensor) -> None:
    """Checks that all belong to the same traffic and to the same steps.

    Raises:
        ValueError: where they do not.
    """
    if drivers.length.shape != state.x.shape:
        raise ValueError(
            f"drivers of {tuple(drivers.length.shape)} vehicles for a state of {tuple(state.x.shape)}; "
            "expected one driver for each vehicle of each scene"
        )
    wanted = (*driven_to.shape[:2], state.num_vehicles)
    if noise.numel() and tuple(noise.shape) != wanted:
        raise ValueError(f"noise of shape {tuple(noise.shape)}, expected {wanted} (scenes, steps, vehicles)")


def _fields(part: TrafficState | Drivers) -> tuple[str, ...]:
    return STATE if isinstance(part, TrafficState) else DRIVER
