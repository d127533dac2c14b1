"""The optimiser on functions with a known answer, and the planner in a world with an exact one."""

import math

import pytest
import torch
from torch import Tensor

from planners import ActionBounds, GradientPlanner, adam, make_objective
from tests.models.factories import HISTORY
from tests.models.factories import SPEC as MODEL_SPEC
from tests.models.factories import make_obs as make_clip_obs
from tests.planners.factories import SPEC, make_model, make_obs
from worldmodel.costs import motorway_cost, ppuu_cost
from worldmodel.models import EgoSplit, ForwardModel

COST = motorway_cost(SPEC, target_speed=15.0)
LOW, HIGH = torch.tensor(-1.0), torch.tensor(1.0)


def quadratic(target: Tensor):
    return lambda point: (point - target).square().sum(-1)


def test_adam_finds_the_optimum_of_a_quadratic() -> None:
    target = torch.tensor([[[0.3, -0.7]], [[0.9, 0.1]]])
    found = adam(
        quadratic(target), torch.zeros(2, 3, 2), low=LOW, high=HIGH, num_iterations=200, learning_rate=0.05
    )
    torch.testing.assert_close(found.argument, target[:, 0], atol=0.02, rtol=0)
    assert (found.cost < 1e-3).all()


def test_adam_stops_at_the_bounds() -> None:
    found = adam(
        quadratic(torch.tensor([3.0, -3.0])), torch.zeros(1, 1, 2), low=LOW, high=HIGH, num_iterations=50
    )
    assert found.argument.tolist() == [[1.0, -1.0]]


def test_adam_returns_the_best_it_ever_met() -> None:
    start = torch.tensor([[[0.01]]])
    found = adam(quadratic(torch.zeros(1)), start, low=LOW, high=HIGH, num_iterations=1, learning_rate=0.9)
    assert torch.equal(found.argument, start[:, 0])


def test_nan_ranks_last_and_does_not_spread() -> None:
    def objective(point: Tensor) -> Tensor:
        cost = (point - 0.5).square().sum(-1)
        return torch.where(point[..., 0] > 0.9, torch.full_like(cost, math.nan), cost)

    found = adam(objective, torch.tensor([[[1.0], [0.0]]]), low=LOW, high=HIGH, num_iterations=40)
    assert found.argument.item() == pytest.approx(0.5, abs=0.1)
    lost = adam(objective, torch.tensor([[[1.0], [1.0]]]), low=LOW, high=HIGH, num_iterations=2)
    assert lost.cost.item() == math.inf and lost.argument.isfinite().all()


def test_objective_discounts_and_averages() -> None:
    model, obs = make_model([]), make_obs(10.0)
    actions = torch.zeros(1, 1, 3, 2)
    rollout = model.unroll(model.init(obs), actions[0], torch.zeros(1, 3, 0))
    total = COST(rollout).total[0]
    value = make_objective(model, COST, obs, discount=0.5)(actions)
    torch.testing.assert_close(value[0, 0], (total * torch.tensor([1.0, 0.5, 0.25])).sum() / 3)


def test_objective_takes_the_previous_action_from_the_history() -> None:
    obs = make_obs(10.0)
    obs.state[:, 0, 3] = 9.8  # it has been accelerating by 2 m/s^2
    model = make_model([])
    cost = motorway_cost(SPEC, weights=dict.fromkeys(COST.weights, 0.0) | {"jerk": 1.0})
    constant = torch.tensor([2.0, 0.0]).expand(1, 1, 10, 2)
    assert make_objective(model, cost, obs)(constant).item() == pytest.approx(0.0, abs=1e-3)


def test_it_stops_behind_a_stopped_car() -> None:
    model, obs = make_model([(22.0, 0.0, 0.0)]), make_obs(8.0)
    cost = motorway_cost(SPEC, weights={"lane": 3.0})
    plan = GradientPlanner(model, cost, num_iterations=40).plan(obs)
    bumpers = 22.0 - 4.8 - plan.ego[0, :, 0]
    assert bumpers.min() > 0.0
    assert plan.ego[0, -1, 3] < 3.0


def test_by_ppuus_cost_it_brakes_for_a_slower_car_and_steers_off_the_road_at_a_price() -> None:
    """Though the rasters do not depend on the actions: they are looked at from where the plan leads."""
    model, obs, cost = make_model([(14.0, 0.0, 9.0)]), make_obs(12.0), ppuu_cost(SPEC)
    plan = GradientPlanner(model, cost).plan(obs)
    assert plan.action[0, :10, 0].mean() < -0.5
    actions = torch.zeros(1, 2, 30, 2)
    actions[0, 1, :, 1] = 0.02  # 12 m aside after 3 s, off a road that ends 5.4 m aside
    straight, steered = make_objective(make_model([]), cost, obs)(actions)[0].tolist()
    assert steered > straight + 0.1


def test_it_beats_doing_nothing_and_every_start() -> None:
    model, obs = (
        make_model([(12.0, 0.0, 5.0)], [], [(10.0, 0.5, 8.0), (-8.0, 0.0, 12.0)]),
        make_obs(10.0, 5.0, 10.0),
    )
    plan = GradientPlanner(model, COST).plan(obs)
    nothing = make_objective(model, COST, obs)(torch.zeros(3, 1, 30, 2))[:, 0]
    assert (plan.cost < nothing).all()
    torch.testing.assert_close(make_objective(model, COST, obs)(plan.action[:, None])[:, 0], plan.cost)


def test_batched_equals_looped() -> None:
    model = make_model([(14.0, 0.0, 5.0)], [], [(9.0, 3.6, 8.0), (-9.0, 0.0, 11.0)])
    obs = make_obs(10.0, 5.0, 9.0)
    planner = GradientPlanner(model, COST, num_iterations=5)
    together = planner.plan(obs)
    for row in range(3):
        alone = planner.plan(obs[row : row + 1])
        torch.testing.assert_close(alone.action[0], together.action[row], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(alone.cost[0], together.cost[row], atol=1e-4, rtol=1e-4)


def test_plans_obey_the_bounds_and_repeat() -> None:
    model, obs = make_model([(8.0, 0.0, 0.0)]), make_obs(12.0)
    planner = GradientPlanner(model, COST, bounds=ActionBounds(accel=(-4.0, 2.0), lateral=2.0))
    plan = planner.plan(obs)
    assert plan.action[..., 0].min() >= -4.0 - 1e-5 and plan.action[..., 0].max() <= 2.0 + 1e-5
    assert plan.action[..., 1].abs().max() <= 2.0 / 144 + 1e-6
    assert torch.equal(planner.plan(obs).action, plan.action)


def test_a_good_warm_start_is_kept() -> None:
    model, obs = make_model([(12.0, 0.0, 4.0)]), make_obs(10.0)
    planner = GradientPlanner(model, COST, num_iterations=30)
    best = planner.plan(obs)
    again = GradientPlanner(model, COST, num_iterations=1).plan(obs, warm_start=best.action[:, None])
    assert again.cost.item() <= best.cost.item() + 1e-4


def test_the_world_model_gradient_reaches_the_actions() -> None:
    objective = make_objective(make_model([(9.0, 0.0, 10.0)]), COST, make_obs(10.0))
    actions = torch.zeros(1, 1, 30, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(objective(actions).sum(), actions)
    assert (gradient[0, 0, :20, 0] > 0).all()  # braking lowers the cost


@pytest.mark.parametrize(
    "options", [{"num_knots": 0}, {"num_knots": 31}, {"num_starts": 0}, {"num_starts": 7}]
)
def test_impossible_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be between 1 and"):
        GradientPlanner(make_model([]), COST, **options)


def test_it_plans_through_the_predictions_of_a_learnt_model() -> None:
    torch.manual_seed(0)
    model = ForwardModel(spec=MODEL_SPEC, history=HISTORY, channels=16).eval().requires_grad_(False)
    obs, world = make_clip_obs(1), EgoSplit(model)
    cost = motorway_cost(MODEL_SPEC, target_speed=15.0)
    objective = make_objective(world, cost, obs)
    actions = torch.zeros(1, 1, 10, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(objective(actions).sum(), actions)
    assert gradient.isfinite().all() and (gradient != 0).any(-1).all()
    plan = GradientPlanner(world, cost, horizon=10, num_knots=3, num_iterations=2).plan(obs)
    assert plan.cost < objective(torch.zeros(1, 1, 10, 2))[0, 0]
    torch.testing.assert_close(objective(plan.action[:, None])[:, 0], plan.cost)
