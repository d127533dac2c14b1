"""Lane, heading and road edge at the ego's pose."""

from dataclasses import replace

import pytest
import torch

from tests.costs.factories import LENGTH, WIDTH, make_road, make_rollout
from worldmodel.costs import LaneKeeping, off_road_cost


def terms(y: float = 0.0, heading: float = 0.0, x: float = 0.0) -> dict[str, float]:
    rollout = make_rollout(ego=(x, y, heading, 10.0))
    return {name: term.item() for name, term in LaneKeeping()(rollout).items()}


def test_off_road_is_0_inside_1_on_the_edge_and_4_a_margin_beyond() -> None:
    edge = torch.tensor([[3.0, 0.5], [3.0, 0.0], [-0.5, 2.0], [0.25, 9.0]])
    assert torch.equal(off_road_cost(edge, 0.5), torch.tensor([0.0, 1.0, 4.0, 0.25]))


def test_lane_is_0_centred_and_1_on_the_marking() -> None:
    assert terms(0.0)["lane"] == pytest.approx(0.0, abs=1e-6)
    assert terms(1.0)["lane"] == pytest.approx(0.25, abs=0.01)
    assert terms(2.0)["lane"] == pytest.approx(1.0, abs=0.01)
    assert terms(4.0)["lane"] == pytest.approx(0.0, abs=1e-6)


def test_heading_is_the_squared_angle_to_the_lane() -> None:
    assert terms(heading=0.2)["heading"] == pytest.approx(0.04, rel=1e-4)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_corner_nearest_to_the_edge_decides(side: float) -> None:
    edge = 6.0  # three lanes of 4 m
    touching = edge - WIDTH / 2
    assert terms(side * (touching - 0.6))["off_road"] == pytest.approx(0.0, abs=1e-6)
    assert terms(side * touching)["off_road"] == pytest.approx(1.0, abs=0.02)
    assert terms(side * (touching + 0.5))["off_road"] == pytest.approx(4.0, abs=0.1)
    turned = WIDTH / 2 * 0.995 + LENGTH / 2 * 0.0998
    assert terms(side * (edge - turned), heading=0.1)["off_road"] == pytest.approx(1.0, abs=0.03)


def test_gradcheck() -> None:
    base = make_rollout(road=make_road(0.3))

    def cost(ego: torch.Tensor) -> torch.Tensor:
        return torch.stack(list(LaneKeeping()(replace(base, ego=ego)).values()))

    ego = torch.tensor([[[0.3, 4.63, 0.05, 9.0]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(cost, ego)
