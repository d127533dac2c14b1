"""Comfort, goal, uncertainty, PPUU's costs and the weighted sum: values worked out by hand."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.costs.factories import LENGTH, SPEC, make_rollout
from worldmodel.costs import (
    Comfort,
    Goal,
    Uncertainty,
    WeightedCost,
    footprint_variance,
    jerk_cost,
    lateral_cost,
    motorway_cost,
    ppuu_cost,
    progress_cost,
    reverse_cost,
)
from worldmodel.costs.ppuu import lateral_mask, longitudinal_mask, ppuu_proximity_cost
from worldmodel.types import Rollout

FOOT = 0.3048


def test_jerk_starts_from_the_previous_action() -> None:
    action = torch.tensor([[[1.0, 0.0], [3.0, 0.0]]])
    assert jerk_cost(action, torch.tensor([[0.5, 0.0]]), 0.5).tolist() == [[1.0, 16.0]]


def test_lateral_acceleration_is_curvature_times_speed_squared() -> None:
    assert lateral_cost(torch.tensor(10.0), torch.tensor(0.02)).item() == pytest.approx(4.0)


def test_progress_and_reverse_at_their_edges() -> None:
    speed = torch.tensor([-1.0, 0.0, 10.0, 20.0, 30.0])
    assert progress_cost(speed, 20.0).tolist() == [1.0499999523162842, 1.0, 0.5, 0.0, 0.0]
    assert reverse_cost(speed).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    overspeed = Goal(target_speed=20.0)(make_rollout(ego=(0.0, 0.0, 0.0, 30.0)))["overspeed"]
    assert overspeed.item() == pytest.approx(0.25)


def test_comfort_names_its_terms() -> None:
    assert list(Comfort()(make_rollout())) == ["accel", "jerk", "lateral", "curvature"]


def test_uncertainty_is_normalised_hinged_and_sampled_under_the_ego() -> None:
    variance = torch.zeros(1, 1, 1, SPEC.height, SPEC.width, dtype=torch.float64)
    variance[..., 50:67, 9:15] = 0.3  # under the ego
    rollout = replace(make_rollout(), variance=variance)
    assert footprint_variance(rollout, SPEC).item() == pytest.approx(0.3)
    for hinge, excess in ((0.5, 1.5), (3.0, 0.0)):
        term = Uncertainty(mean=(0.1,), std=(0.1,), hinge=hinge)(rollout)["uncertainty"]
        assert term.item() == pytest.approx(math.log1p(excess))
    away = replace(rollout, ego=rollout.ego + torch.tensor([20.0, 0.0, 0.0, 0.0]))
    assert footprint_variance(away, SPEC).item() == 0.0


def test_uncertainty_asks_for_what_it_needs() -> None:
    with pytest.raises(ValueError, match="no variance"):
        Uncertainty(mean=(0.1,), std=(0.1,))(make_rollout())
    rollout = make_rollout()
    with pytest.raises(ValueError, match="1 steps, but uncertainty statistics for 0"):
        Uncertainty(mean=(), std=())(replace(rollout, variance=rollout.image))


def test_ppuu_lateral_mask_saturates_below_one_as_published() -> None:
    mask = lateral_mask(torch.tensor([6.4 * FOOT, 5.5 * FOOT]), SPEC)
    expected = torch.tensor([0.13, 0.48, 0.83, 0.83, 0.48, 0.13])
    torch.testing.assert_close(mask[0, 9:15], expected, atol=5e-3, rtol=0)
    torch.testing.assert_close(mask.amax(-1), torch.tensor([0.826, 0.739]), atol=1e-3, rtol=0)


def test_ppuu_proximity_of_a_raster_full_of_cars_is_the_saturation() -> None:
    image = torch.ones(1, 1, SPEC.height, SPEC.width)
    size = torch.tensor([[14.3 * FOOT, 6.4 * FOOT]])
    cost = ppuu_proximity_cost(image, size, torch.tensor([[10.0]]), spec=SPEC)
    assert cost.item() == pytest.approx(0.826, abs=1e-3)


def test_ppuu_longitudinal_mask_is_symmetric_and_reaches_the_safe_distance() -> None:
    mask = longitudinal_mask(torch.tensor([4.4]), torch.tensor([10.0]), SPEC)[0]
    torch.testing.assert_close(mask, mask.flip(0))
    reach = mask.nonzero()[0].item()  # first row that counts: 16 m beyond the bumper, give or take a pixel
    assert (SPEC.height / 2 - reach) * SPEC.resolution == pytest.approx(4.4 / 2 - 0.5 + 16.0, abs=1.0)


def test_ppuu_terms_see_cars_and_lanes() -> None:
    terms = ppuu_cost()(make_rollout((LENGTH + 3.0, 0.0))).terms
    assert 0.3 < terms["ppuu_proximity"].item() < 0.83
    assert terms["ppuu_off_road"].item() == pytest.approx(0.0, abs=1e-5)


def test_ppuu_looks_from_the_ego_wherever_the_raster_was_drawn() -> None:
    """Drawn four pixels behind the ego and one to its right, the car ahead is nearer than it looks."""
    ahead, aside = 4 * SPEC.resolution, SPEC.resolution
    moved = ppuu_cost()(make_rollout((LENGTH + 3.0, 0.0), ego=(ahead, aside, 0.0, 10.0))).terms
    there = make_rollout((LENGTH + 3.0 - ahead, -aside)).image
    still = make_rollout((LENGTH + 3.0, 0.0))
    expected = ppuu_cost()(replace(still, image=there)).terms
    torch.testing.assert_close(moved["ppuu_proximity"], expected["ppuu_proximity"], atol=1e-5, rtol=0)
    assert moved["ppuu_proximity"].item() > ppuu_cost()(still).terms["ppuu_proximity"].item() + 0.1
    off_road = ppuu_cost()(make_rollout(ego=(0.0, 6.5, 0.0, 10.0))).terms["ppuu_off_road"]
    assert off_road.item() > 0.5  # the road's edge is 6 m aside


def test_ppuu_takes_a_raster_of_the_egos_pose_as_it_is() -> None:
    pose = (3.0, 1.0, 0.1)
    rollout = make_rollout((LENGTH + 3.0, 1.0), ego=(*pose, 10.0))
    rollout = replace(rollout, view=torch.tensor([[pose]], dtype=torch.float64))
    expected = ppuu_proximity_cost(rollout.image[:, :, 0], rollout.size, rollout.ego[..., 3], spec=SPEC)
    assert expected.item() > 0.3
    torch.testing.assert_close(ppuu_cost()(rollout).terms["ppuu_proximity"], expected, atol=1e-6, rtol=0)


def test_ppuu_has_a_gradient_in_the_pose() -> None:
    """Falling back from the car ahead helps, and so does moving away from the edge; speed is detached."""
    rollout = make_rollout((LENGTH + 3.0, 0.0), ego=(0.0, 5.0, 0.0, 10.0))
    ego = rollout.ego.clone().requires_grad_()
    terms = ppuu_cost()(replace(rollout, ego=ego)).terms
    (aside,) = torch.autograd.grad(terms["ppuu_off_road"].sum(), ego)
    assert aside[0, 0, 1] > 0.1
    ego = torch.tensor([[[0.0, 0.0, 0.0, 10.0]]], dtype=torch.float64, requires_grad=True)
    (ahead,) = torch.autograd.grad(ppuu_cost()(replace(rollout, ego=ego)).terms["ppuu_proximity"].sum(), ego)
    assert ahead[0, 0, 0] > 0.01 and ahead[0, 0, 3] == 0.0


def ones(name: str) -> "type":
    def term(rollout: Rollout) -> Mapping[str, Tensor]:
        return {name: torch.ones(1, 1)}

    return term  # type: ignore[return-value]


def test_weighted_cost_adds_up() -> None:
    cost = WeightedCost((ones("a"), ones("b")), {"a": 2.0, "b": 0.5})  # type: ignore[arg-type]
    assert cost(make_rollout()).total.item() == 2.5


@pytest.mark.parametrize(
    ("names", "weights", "message"),
    [
        (("a", "b"), {"a": 1.0}, r"missing \['b'\]"),
        (("a",), {"a": 1.0, "c": 1.0}, r"unknown \['c'\]"),
        (("a", "a"), {"a": 1.0}, "two costs name a term"),
    ],
)
def test_weighted_cost_refuses_names_that_do_not_match(
    names: tuple[str, ...], weights: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        WeightedCost(tuple(ones(name) for name in names), weights)(make_rollout())  # type: ignore[arg-type]


def test_motorway_cost_prefers_an_empty_road_to_a_car_in_front() -> None:
    cost = motorway_cost()
    free, blocked = (cost(make_rollout(*boxes)).total.item() for boxes in ([], [(7.0, 0.0)]))
    assert blocked > free + 3.0
