"""What must hold of any traffic, and the two backends against each other."""

from dataclasses import fields, replace

import pytest
import torch

from tests.scene.traffic.factories import make_road, make_traffic
from worldmodel.scene import boxes_overlap
from worldmodel.scene.traffic import (
    Drivers,
    LaneEnd,
    TrafficLane,
    TrafficRoad,
    TrafficState,
    advance,
    advance_torch,
)

BACKENDS = [advance, advance_torch]


def assert_same(got: TrafficState, expected: TrafficState, *, atol: float = 0.0) -> None:
    """Compares the vehicles that are there."""
    assert torch.equal(got.valid, expected.valid)
    for one in fields(got):
        if one.name != "order":
            a, b = (getattr(part, one.name)[expected.valid] for part in (got, expected))
            torch.testing.assert_close(a, b, rtol=0.0, atol=atol if a.is_floating_point() else 0.0)


def noise_for(state: TrafficState, num_steps: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(len(state.x), num_steps, state.num_vehicles, generator=g, dtype=state.x.dtype)


def make_motorway() -> TrafficRoad:
    """Three lanes, the left of which ends, an exit and an on-ramp that ends."""
    lanes = (
        TrafficLane(end=900.0, kind=LaneEnd.CLOSED),
        TrafficLane(),
        TrafficLane(speed_limit=25.0),
        TrafficLane(start=300.0, end=700.0, kind=LaneEnd.EXIT),
        TrafficLane(start=100.0, end=600.0, kind=LaneEnd.CLOSED, crossing=(250.0, 600.0)),
    )
    return TrafficRoad(lanes, 2000.0)


# --- Backends -----------------------------------------------------------------------------------------------


def test_backends_agree_where_lanes_end_and_drivers_err_and_leave() -> None:
    state, drivers = make_traffic(6, 30, gap=18.0)
    is_leaving = torch.arange(30).remainder(3).eq(0).expand(6, 30)
    length = torch.where(torch.arange(30).remainder(4).eq(0), 12.0, 4.5).double().expand(6, 30)
    drivers = replace(
        drivers,
        exit=torch.where(is_leaving, 3, -1),
        noise_std=torch.full((6, 30), 0.5, dtype=torch.float64),
        politeness=torch.full((6, 30), 0.3, dtype=torch.float64),
        length=length,
    )
    state = replace(state, valid=torch.rand(6, 30, generator=torch.Generator().manual_seed(2)) < 0.8)
    road, noise = make_motorway(), noise_for(state, 160)
    begun = {-1: 0, 1: 0}
    for t in range(160):
        moved = advance(state, drivers, road, noise=noise[:, t : t + 1])
        if t % 4 == 0:
            assert_same(advance_torch(state, drivers, road, noise=noise[:, t : t + 1]), moved, atol=1e-9)
        decides = (state.target == state.lane) & state.valid
        for side in begun:
            begun[side] += int((moved.target == state.lane + side)[decides].sum())
        state = moved
    assert ((state.lane == 3) & is_leaving & state.valid).sum() >= 5
    assert min(begun.values()) >= 10


def test_backends_agree_on_a_ring() -> None:
    state, drivers = make_traffic(4, 24, gap=12.0)
    road = TrafficRoad.ring(num_lanes=4, length=400.0)
    state = replace(state, x=state.x % 400.0)
    a, b = state, state
    for _ in range(6):
        a, b = advance(a, drivers, road, num_steps=10), advance_torch(b, drivers, road, num_steps=10)
        assert_same(b, a, atol=1e-9)
        assert ((a.x >= 0) & (a.x < 400.0)).all()
    assert (a.target != state.target).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_in_either_precision(dtype: torch.dtype) -> None:
    state, drivers = make_traffic(8, 40, dtype=dtype)
    road = make_road()
    for _ in range(20):
        one, other = advance(state, drivers, road), advance_torch(state, drivers, road)
        assert one.x.dtype == other.x.dtype == dtype
        assert_same(other, one, atol=1e-3 if dtype == torch.float32 else 1e-12)
        state = one


@pytest.mark.slow
def test_torch_is_differentiable_through_the_accelerations() -> None:
    state, drivers = make_traffic(2, 4, gap=15.0)
    driven = torch.tensor([[2], [1]])

    def reached(x: torch.Tensor, speed: torch.Tensor, headway: torch.Tensor, path: torch.Tensor):
        moved = advance_torch(
            replace(state, x=x, speed=speed),
            replace(drivers, headway=headway),
            make_road(),
            driven=driven,
            driven_to=path,
        )
        return moved.x, moved.y, moved.heading, moved.speed

    path = torch.stack([state.x, state.y, state.heading, state.speed], -1)
    path = path[torch.arange(2)[:, None], driven].unsqueeze(1).repeat(1, 2, 1, 1) + 0.1
    inputs = [one.clone().requires_grad_() for one in (state.x, state.speed, drivers.headway, path)]
    assert torch.autograd.gradcheck(reached, inputs, eps=1e-7, atol=1e-5)


def test_gradients_stay_finite_at_standstill_and_at_full_steering() -> None:
    state, drivers = make_traffic(1, 4)
    heading = torch.tensor([[0.0, 1.5, -1.5, 0.4]], dtype=torch.float64)
    speed = torch.tensor([[0.0, 0.0, 3.0, -0.1]], dtype=torch.float64, requires_grad=True)
    moved = advance_torch(replace(state, speed=speed, heading=heading), drivers, make_road(), num_steps=5)
    (moved.x.sum() + moved.y.sum() + moved.heading.sum()).backward()
    assert speed.grad is not None and speed.grad.isfinite().all()


# --- Properties ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_is_its_scenes_one_by_one(backend) -> None:
    state, drivers = make_traffic(5, 20)
    together = backend(state, drivers, make_road(), num_steps=15)
    for b in range(5):
        alone = backend(state[b : b + 1], drivers[b : b + 1], make_road(), num_steps=15)
        assert_same(alone, together[b : b + 1])


def test_threads_share_the_scenes_out() -> None:
    state, drivers = make_traffic(5, 20)
    one = advance(state, drivers, make_road(), num_steps=15)
    assert_same(advance(state, drivers, make_road(), num_steps=15, num_threads=3), one)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_numbering_of_vehicles_does_not_matter(backend) -> None:
    # But for changes that are given up, which follow the numbers as in highway-env: nobody changes here.
    state, drivers = make_traffic(2, 20)
    drivers = replace(drivers, changes=torch.zeros_like(drivers.changes))
    shuffle = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    order = torch.arange(20).expand(2, 20).contiguous()
    expected = backend(state, drivers, make_road(), num_steps=15)
    got = backend(replace(state[:, shuffle], order=order), drivers[:, shuffle], make_road(), num_steps=15)
    assert_same(got, expected[:, shuffle])


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_numbering_does_not_matter_to_a_step_with_lane_changes(backend) -> None:
    state, drivers = make_traffic(4, 30)
    state = replace(state, timer=torch.full_like(state.timer, 1.5))
    shuffle = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    expected = backend(state, drivers, make_road())
    assert (expected.target != state.target).any()
    assert_same(backend(state[:, shuffle], drivers[:, shuffle], make_road()), expected[:, shuffle])


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_given_stays_as_it_is(backend) -> None:
    state, drivers = make_traffic(2, 10)
    kept = replace(state, **{one.name: getattr(state, one.name).clone() for one in fields(state)})
    backend(state, drivers, make_road(), num_steps=5)
    assert_same(state, kept)
    assert torch.equal(state.order, kept.order)


def test_a_saved_state_goes_on_as_if_nothing_had_happened(tmp_path) -> None:
    state, drivers = make_traffic(3, 25)
    noise = noise_for(state, 60)
    drivers = replace(drivers, noise_std=torch.full_like(drivers.noise_std, 0.4))
    whole = advance(state, drivers, make_road(), num_steps=60, noise=noise)
    half = advance(state, drivers, make_road(), num_steps=30, noise=noise[:, :30])
    torch.save(vars(half), tmp_path / "state.pt")
    again = TrafficState(**torch.load(tmp_path / "state.pt"))
    assert_same(advance(again, drivers, make_road(), num_steps=30, noise=noise[:, 30:]), whole)


def test_steps_together_are_steps_one_after_another() -> None:
    state, drivers = make_traffic(3, 25)
    apart = state
    for _ in range(25):
        apart = advance(apart, drivers, make_road())
    assert_same(advance(state, drivers, make_road(), num_steps=25), apart)


@pytest.mark.parametrize("seed", range(3))
def test_following_alone_never_makes_boxes_overlap(seed: int) -> None:
    # One lane, nobody changes, everybody starts no closer than he wants to be.
    g = torch.Generator().manual_seed(seed)
    speed = 30.0 * torch.rand(8, 20, generator=g, dtype=torch.float64)
    drivers = Drivers.alike(5.0 + 30.0 * torch.rand(8, 20, generator=g, dtype=torch.float64))
    drivers = replace(drivers, changes=torch.zeros_like(drivers.changes))
    brake = 2 * (drivers.accel * drivers.decel).sqrt()
    closing = (speed[:, :-1] - speed[:, 1:]).clamp(min=0)
    wanted = 10.0 + speed[:, :-1] * 1.5 + speed[:, :-1] * closing / brake[:, :-1]
    x = torch.cat([torch.full((8, 1), 100.0, dtype=torch.float64), 100.0 + wanted.cumsum(1)], 1)
    road = TrafficRoad.straight(num_lanes=1)
    state = TrafficState.on_lanes(x, torch.zeros_like(x, dtype=torch.long), speed, centre=torch.zeros(1))
    for _ in range(60):
        state = advance(state, drivers, road, num_steps=5)
        assert not state.crashed.any()
        boxes = torch.stack([state.x, state.y, state.heading, drivers.length, drivers.width], -1)
        assert not boxes_overlap(boxes[:, 1:], boxes[:, :-1]).any()


def test_noise_makes_drivers_differ_and_its_seed_repeats_them() -> None:
    state, drivers = make_traffic(2, 10)
    drivers = replace(drivers, noise_std=torch.full_like(drivers.noise_std, 0.5))
    one, same, other = (
        advance(state, drivers, make_road(), num_steps=20, noise=noise_for(state, 20, seed))
        for seed in (0, 0, 1)
    )
    assert_same(one, same)
    assert (one.x != other.x).all()


# --- Others at the wheel ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_vehicles_driven_by_others_go_where_they_are_told_and_are_reacted_to(backend) -> None:
    state, drivers = make_traffic(2, 8, gap=10.0)
    driven = torch.tensor([[4], [5]])
    rows = torch.arange(2)[:, None]
    stays = torch.stack([state.x, state.y, state.heading, 0 * state.speed], -1)[rows, driven]
    path = stays.unsqueeze(1).repeat(1, 30, 1, 1)
    moved = backend(state, drivers, make_road(), driven=driven, driven_to=path)
    assert torch.equal(moved.x[rows, driven], state.x[rows, driven])
    assert not moved.speed[rows, driven].any()
    free = backend(state, drivers, make_road(), num_steps=30)
    assert (moved.x[0, :4] < free.x[0, :4]).any()


@pytest.mark.parametrize(("desired", "cuts_in"), [(20.0, True), (0.0, False)])
def test_somebody_cuts_in_ahead_of_a_driver_whose_desired_speed_is_known(
    desired: float, cuts_in: bool
) -> None:
    # highway-env takes the desired speed of an ego that is driven by actions for zero.
    road = make_road()
    x = torch.tensor([[60.0, 150.0, 175.0]], dtype=torch.float64)
    speed = torch.tensor([[20.0, 25.0, 15.0]], dtype=torch.float64)
    centre = torch.from_numpy(road.centre)
    state = TrafficState.on_lanes(x, torch.tensor([[1, 0, 0]]), speed, centre=centre)
    drivers = Drivers.alike(torch.tensor([[desired, 30.0, 15.0]], dtype=torch.float64))
    time = 0.1 * torch.arange(1, 16, dtype=torch.float64)
    path = torch.stack([60.0 + 20.0 * time, 0 * time - 4.0, 0 * time, 0 * time + 20.0], -1)
    driven, path = torch.tensor([[0]]), path.reshape(1, 15, 1, 4)
    assert (advance(state, drivers, road, driven=driven, driven_to=path).target[0, 1] == 1) == cuts_in


# --- Bad input ----------------------------------------------------------------------------------------------


def test_errors_say_what_to_do() -> None:
    state, drivers = make_traffic(2, 10)
    with pytest.raises(ValueError, match="expected one driver for each vehicle"):
        advance(state, drivers[:, :5], make_road())
    with pytest.raises(ValueError, match=r"noise of shape \(2, 3, 10\), expected \(2, 4, 10\)"):
        advance(state, drivers, make_road(), num_steps=4, noise=torch.zeros(2, 3, 10, dtype=torch.float64))
    with pytest.raises(ValueError, match="every lane is closed"):
        TrafficRoad((TrafficLane(end=50.0, kind=LaneEnd.CLOSED),), 100.0)
    with pytest.raises(ValueError, match=r"lane 1 ends open at 50\.0 m, 50\.0 m before the road"):
        TrafficRoad((TrafficLane(), TrafficLane(end=50.0)), 100.0)
    with pytest.raises(ValueError, match=r"lane 0 from 20\.0 to 10\.0 m"):
        TrafficRoad((TrafficLane(start=20.0, end=10.0),), 100.0)
