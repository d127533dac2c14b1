"""Proximity: 1 at contact, 0 beyond the safety distance, monotone, differentiable, symmetric."""

from dataclasses import replace

import pytest
import torch

from tests.costs.factories import LENGTH, make_rollout
from worldmodel.costs import Proximity, falloff, first_hit, safety_distance
from worldmodel.costs.proximity import BUNDLES
from worldmodel.scene import rollout as roll_out


def proximity(name: str, *boxes: tuple[float, float], **options: object) -> float:
    return Proximity()(make_rollout(*boxes, **options))[name].item()  # type: ignore[arg-type]


def test_falloff_is_a_parabola_between_contact_and_reach() -> None:
    gap = torch.tensor([-1.0, 0.0, 2.0, 4.0, 5.0])
    assert torch.equal(falloff(gap, torch.tensor(4.0)), torch.tensor([1.0, 1.0, 0.25, 0.0, 0.0]))


def test_safety_distance_grows_with_speed_and_is_detached() -> None:
    speed = torch.tensor([-3.0, 0.0, 10.0], requires_grad=True)
    distance = safety_distance(speed, 2.0, 1.5)
    assert torch.equal(distance, torch.tensor([2.0, 2.0, 17.0]))
    assert not distance.requires_grad


def test_first_hit_equals_the_sum_over_transmitted_light() -> None:
    num_points = sum(one.num_steps * len(one.offsets) for one in BUNDLES)
    occupancy, length = torch.rand(2, 5, num_points, dtype=torch.float64)
    weight = torch.rand(5, sum(one.num_steps for one in BUNDLES), dtype=torch.float64)
    expected = torch.zeros(5, len(BUNDLES), dtype=torch.float64)
    point = step = 0
    for index, bundle in enumerate(BUNDLES):
        passed = torch.ones(5, dtype=torch.float64)
        for _ in range(bundle.num_steps):
            rays = slice(point, point := point + len(bundle.offsets))
            alpha = 1 - torch.exp(-(occupancy[:, rays] * length[:, rays]).sum(-1))
            expected[:, index] += passed * alpha * weight[:, step]
            passed = passed * (1 - alpha)
            step += 1
    torch.testing.assert_close(first_hit(occupancy, weight, length), expected)


def test_between_looks_the_last_value_stands() -> None:
    still = make_rollout((9.0, 0.0), (0.0, 2.5))
    ego = still.ego + torch.arange(5)[:, None] * torch.tensor([0.5, 0.1, 0.0, 0.0])
    moving = replace(
        still,
        ego=ego,
        view=still.view.expand(-1, 5, -1),
        image=still.image.expand(-1, 5, -1, -1, -1),
        action=still.action.expand(-1, 5, -1),
    )
    every, second = Proximity(every=1)(moving), Proximity(every=2)(moving)
    for name, term in every.items():
        torch.testing.assert_close(second[name], term[:, [0, 0, 2, 2, 4]])


def test_nothing_around_costs_nothing() -> None:
    assert all(term.item() == 0.0 for term in Proximity()(make_rollout()).values())


@pytest.mark.parametrize(
    ("name", "x", "y"), [("front", LENGTH, 0.0), ("rear", -LENGTH, 0.0), ("side", 0.0, 1.9)]
)
def test_contact_costs_almost_one(name: str, x: float, y: float) -> None:
    assert proximity(name, (x, y)) == pytest.approx(1.0, abs=0.2 if name == "side" else 0.07)


def test_an_overlapping_vehicle_costs_one_everywhere() -> None:
    assert all(term.item() > 0.98 for term in Proximity()(make_rollout((0.0, 0.5))).values())


@pytest.mark.parametrize("speed", [0.0, 10.0, 20.0])
def test_front_is_zero_beyond_the_safety_distance(speed: float) -> None:
    cost = Proximity()
    reach = LENGTH + cost.contact + cost.standstill + cost.time_gap * speed
    ego = (0.0, 0.0, 0.0, speed)
    assert proximity("front", (reach + 0.6, 0.0), ego=ego) == 0.0
    assert proximity("front", (reach - 1.5, 0.0), ego=ego) > 0.0


@pytest.mark.parametrize(
    ("name", "x", "y", "speed"),
    [
        ("front", 1.0, 0.0, 5.0),
        ("front", 1.0, 0.0, 20.0),
        ("rear", -1.0, 0.0, 10.0),
        ("side", 0.0, 1.0, 10.0),
    ],
)
def test_cost_falls_with_the_gap(name: str, x: float, y: float, speed: float) -> None:
    gaps = torch.arange(0.0, 2.0 if name == "side" else 26.0, 0.25).tolist()
    base = (LENGTH, 1.9)
    ego = (0.0, 0.0, 0.0, speed)
    costs = [proximity(name, (x * (base[0] + gap), y * (base[1] + gap)), ego=ego) for gap in gaps]
    falls = torch.tensor(costs).diff()
    assert (falls <= 1e-3).all()
    assert costs[0] > 0.7 and costs[-1] < 1e-3


def test_the_next_lane_is_free() -> None:
    for x in (-6.0, 0.0, 6.0):
        terms = Proximity()(make_rollout((x, 3.7), (x, -3.7)))
        assert all(term.item() < 1e-3 for term in terms.values())


def test_the_first_vehicle_decides() -> None:
    assert proximity("front", (8.0, 0.0), (15.0, 0.0)) == pytest.approx(
        proximity("front", (8.0, 0.0)), abs=1e-3
    )


def test_a_faint_blur_costs_little_and_a_strong_one_nearly_all() -> None:
    faint, half, full = (proximity("front", (8.0, 0.0), grey=grey) for grey in (0.05, 0.5, 1.0))
    assert faint < 0.1 * full
    assert 0.5 * full < half < full


def test_left_and_right_are_alike() -> None:
    one, other = (Proximity()(make_rollout((6.0, y), (-7.0, -y), (0.0, 2.4 * y))) for y in (1.0, -1.0))
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=0)  # drawn in float32


def test_only_the_pose_relative_to_the_view_matters() -> None:
    here = make_rollout((7.0, 0.4), ego=(1.0, 0.2, 0.05, 10.0))
    shift = torch.tensor([20.0, 3.0, 0.0])
    there = replace(here, view=here.view + shift, ego=here.ego + torch.tensor([20.0, 3.0, 0.0, 0.0]))
    for name, term in Proximity()(here).items():
        torch.testing.assert_close(Proximity()(there)[name], term)


@pytest.mark.parametrize(("x", "sign"), [(9.0, 1.0), (-9.0, -1.0)])
def test_gradient_brakes_behind_a_vehicle_and_flees_from_one_behind(x: float, sign: float) -> None:
    still = make_rollout((x, 0.0))
    accel = torch.zeros(1, 5, 2, dtype=torch.float64, requires_grad=True)
    ego = roll_out(still.ego[:, 0] * torch.tensor([0.0, 0, 0, 1]), accel, 0.1)
    moving = replace(
        still,
        ego=ego,
        view=torch.stack([ego[..., 3].detach().cumsum(1) * 0.1, *torch.zeros(2, 1, 5)], -1),
        image=still.image.expand(-1, 5, -1, -1, -1),
        action=accel,
    )
    sum(term.sum() for term in Proximity(every=1)(moving).values()).backward()
    assert accel.grad is not None and (sign * accel.grad[..., 0] > 0).all()


def test_gradcheck() -> None:
    base = make_rollout((8.0, 0.3), (-8.5, -0.4), (0.5, 2.6))

    def cost(pose: torch.Tensor) -> torch.Tensor:
        # The speed is detached by design, so it is left out.
        ego = torch.cat([pose, base.ego[..., 3:]], dim=-1)
        return torch.stack(list(Proximity()(replace(base, ego=ego)).values()))

    pose = torch.tensor([[[0.13, 0.07, 0.02]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(cost, pose)
