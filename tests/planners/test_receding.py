"""Memory between decisions: what is shifted, what is kept, and for whom."""

from dataclasses import replace

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from planners import GradientPlanner, RecedingHorizon, shift
from tests.planners.factories import SPEC, make_model, make_obs
from worldmodel.costs import motorway_cost
from worldmodel.types import Obs, Plan


class Counting:
    """Plans accelerations 100 call + step, others by 1000 more, and remembers what it was asked."""

    def __init__(self, *, num_others: int = 0) -> None:
        self.num_others = num_others
        self.asked: list[tuple[list[int], Tensor | None]] = []
        self.budgets: list[float | None] = []

    def reset(self, seed: int | None = None) -> None:
        self.asked.clear()

    def plan(
        self,
        obs: Obs,
        *,
        warm_start: Float[Tensor, "B N T 2"] | None = None,
        budget_ms: float | None = None,
    ) -> Plan:
        self.asked.append((obs.scene.tolist(), warm_start))
        self.budgets.append(budget_ms)
        action = torch.zeros(obs.batch_size, 5, 2)
        action[..., 0] = torch.arange(5) + 100.0 * len(self.asked)
        action[..., 1] = 0.01
        others = action[:, None] + 1000.0 * torch.arange(1, 1 + self.num_others)[:, None, None]
        return Plan(action, torch.zeros(obs.batch_size, 5, 4), torch.zeros(obs.batch_size), others)


def test_shift_keeps_speed_and_curvature_at_the_end() -> None:
    action = torch.tensor([[1.0, 0.1], [2.0, 0.2], [3.0, 0.3]])
    assert torch.equal(shift(action, 1), torch.tensor([[2.0, 0.2], [3.0, 0.3], [0.0, 0.3]]))
    assert torch.equal(shift(action, 0), action)
    assert torch.equal(shift(action, 9), torch.tensor([[0.0, 0.3]] * 3))


def test_it_warm_starts_from_what_is_left() -> None:
    inner = Counting()
    planner = RecedingHorizon(inner)
    planner.plan(make_obs(10.0))
    assert inner.asked[0][1] is None
    planner.plan(make_obs(10.0))
    warm = inner.asked[1][1]
    assert warm is not None and warm[0, :, :, 0].tolist() == [[101.0, 102.0, 103.0, 104.0, 0.0]]


def test_other_good_sequences_are_kept_and_shifted_too() -> None:
    inner = Counting(num_others=2)
    planner = RecedingHorizon(inner)
    planner.plan(make_obs(10.0))
    planner.plan(make_obs(10.0))
    warm = inner.asked[1][1]
    assert warm is not None and warm.shape == (1, 3, 5, 2)
    assert warm[0, :, 0, 0].tolist() == [101.0, 1101.0, 2101.0]


def test_a_new_scene_is_asked_for_without_a_warm_start_also_beside_known_ones() -> None:
    inner = Counting()
    planner = RecedingHorizon(inner)
    three = make_obs(10.0, 20.0, 30.0)
    planner.plan(three[1:2])
    plan = planner.plan(three)
    assert [scenes for scenes, _ in inner.asked] == [[1], [1], [0, 2]]
    assert [warm is None for _, warm in inner.asked] == [True, False, True]
    assert plan.action[:, 0, 0].tolist() == [300.0, 200.0, 300.0]


@pytest.mark.parametrize("num_starts", [1, 2])
def test_a_scene_gets_the_same_plan_whoever_it_comes_with(num_starts: int) -> None:
    """A standing car ahead: whoever may also start from braking finds more than whoever may not."""
    model = make_model([], [(40.0, 0.0, 0.0)], [(-20.0, 0.0, 12.0)])
    obs, cost = make_obs(12.0, 15.0, 10.0), motorway_cost(SPEC, target_speed=15.0)

    def make_planner() -> RecedingHorizon:
        return RecedingHorizon(GradientPlanner(model, cost, num_starts=num_starts, num_iterations=2))

    alone, again = make_planner(), make_planner()
    first = [alone.plan(obs[row : row + 1]) for row in (0, 1, 2)]
    again.plan(obs[:1])
    together, second = again.plan(obs), alone.plan(obs[:1])
    for row, expected in enumerate([second, first[1], first[2]]):
        torch.testing.assert_close(together.action[row], expected.action[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.cost[row], expected.cost[0], atol=1e-5, rtol=0)


def test_the_budget_is_passed_on() -> None:
    inner = Counting()
    planner = RecedingHorizon(inner)
    planner.plan(make_obs(10.0))
    planner.plan(make_obs(10.0), budget_ms=20.0)
    assert inner.budgets == [None, 20.0]


def test_new_scenes_get_what_known_ones_leave_of_the_budget() -> None:
    inner, times = Counting(), iter([0.0, 1.0, 1.015, 2.0, 2.1])
    planner = RecedingHorizon(inner, clock=lambda: next(times))
    three = make_obs(10.0, 20.0, 30.0)
    planner.plan(three[:1], budget_ms=20.0)
    planner.plan(three[:2], budget_ms=20.0)
    planner.plan(three, budget_ms=20.0)
    assert inner.budgets == pytest.approx([20.0, 20.0, 5.0, 20.0, 0.0])


def test_it_follows_a_plan_for_as_long_as_it_is_told() -> None:
    inner = Counting()
    planner = RecedingHorizon(inner, replan_every=3)
    firsts = [planner.plan(make_obs(10.0)).action[0, 0, 0].item() for _ in range(5)]
    assert firsts == [100.0, 101.0, 102.0, 200.0, 201.0]


def test_scenes_come_and_go_without_mixing() -> None:
    inner = Counting()
    planner = RecedingHorizon(inner, replan_every=2)
    both = make_obs(10.0, 20.0)
    planner.plan(both[:1])
    plan = planner.plan(both)  # scene 0 follows its plan, scene 1 gets its first
    assert plan.action[:, 0, 0].tolist() == [101.0, 200.0]
    plan = planner.plan(both)  # now it is scene 0's turn
    assert plan.action[:, 0, 0].tolist() == [300.0, 201.0]
    assert [scenes for scenes, _ in inner.asked] == [[0], [1], [0]]


def test_expected_states_start_from_the_speed_now() -> None:
    planner = RecedingHorizon(Counting())
    plan = planner.plan(make_obs(10.0))
    assert plan.ego[0, 0, 3].item() == pytest.approx(20.0)  # 10 m/s + 0.1 s of 100 m/s^2


def test_reset_forgets() -> None:
    inner = Counting()
    planner = RecedingHorizon(inner)
    planner.plan(make_obs(10.0))
    planner.reset()
    planner.plan(make_obs(10.0))
    assert inner.asked[0][1] is None


def test_repeated_scene_numbers_and_bad_intervals_are_refused() -> None:
    obs = make_obs(10.0, 10.0)
    with pytest.raises(ValueError, match="repeat"):
        RecedingHorizon(Counting()).plan(replace(obs, scene=torch.zeros(2, dtype=torch.long)))
    with pytest.raises(ValueError, match="at least 1"):
        RecedingHorizon(Counting(), replan_every=0)
