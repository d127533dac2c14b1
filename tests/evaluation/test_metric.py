"""Metrics by hand."""

import math

import pytest
import torch

from worldmodel.evaluation.metric import Side, contact_side, first_hit, mean_jerk, time_to_collision

EGO = torch.tensor([[0.0, 0.0, 0.0, 4.0, 2.0]], dtype=torch.float64)


def box(x: float, y: float, heading: float = 0.0) -> torch.Tensor:
    return torch.tensor([[x, y, heading, 4.0, 2.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("x", "y", "side"),
    [
        (3.9, 0.0, Side.FRONT),
        (3.0, 1.0, Side.FRONT),
        (-3.9, 0.5, Side.REAR),
        (0.0, 1.9, Side.SIDE),
        (3.0, -1.9, Side.SIDE),
    ],
)
@pytest.mark.parametrize("turn", [0.0, 1.0, -2.5])
def test_contact_side(x, y, side, turn):
    cos, sin = math.cos(turn), math.sin(turn)
    ego, other = EGO.clone(), box(cos * x - sin * y, sin * x + cos * y, turn)
    ego[0, 2] = turn
    assert contact_side(ego, other).tolist() == [side]


def test_first_hit_names_the_nearest_valid_one():
    others = torch.cat([box(3.5, 0.0), box(1.0, 0.0), box(0.5, 0.0)]).unsqueeze(0)
    hit, column = first_hit(EGO, others, torch.tensor([[True, True, False]]), margin=0.1)
    assert (hit.tolist(), column.tolist()) == ([True], [1])
    nobody, _ = first_hit(EGO, others, torch.zeros(1, 3, dtype=torch.bool), margin=0.1)
    assert nobody.tolist() == [False]


def test_time_to_collision_counts_only_who_is_ahead_in_the_way_and_slower():
    others = torch.cat([box(24.0, 0.0), box(14.0, 2.5), box(-6.0, 0.0), box(9.0, 0.0)]).unsqueeze(0)
    speeds = torch.tensor([[8.0, 0.0, 30.0, 12.0]], dtype=torch.float64)
    got = time_to_collision(
        EGO,
        torch.tensor([10.0], dtype=torch.float64),
        others,
        other_speed=speeds,
        valid=torch.ones(1, 4, dtype=torch.bool),
    )
    assert got.item() == pytest.approx(20.0 / 2.0)


def test_mean_jerk():
    assert mean_jerk(torch.tensor([0.0, 1.0, 0.0, 0.0]), 0.1).item() == pytest.approx(20.0 / 3)
    assert mean_jerk(torch.tensor([3.0]), 0.1).item() == 0.0
