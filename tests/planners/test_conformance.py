"""What every planner in `configs/planner` must do: a new one is tested the day it has a configuration."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

import configs
from planners import ActionBounds, OnlinePlanner, RecedingHorizon, WarmPlanner, adam, make_objective
from tests.planners import problems
from tests.planners.factories import SPEC, make_model, make_obs
from tests.planners.problems import HIGH, LOW, Problem, evaluations_until
from worldmodel.app.compose import build
from worldmodel.costs import Uncertainty, footprint_variance, motorway_cost
from worldmodel.models import Context, FixedContext
from worldmodel.protocols import Planner
from worldmodel.types import CostTerms, Obs, Rollout

FOLDER = Path(configs.__file__).parent / "planner"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
COST = motorway_cost(SPEC, target_speed=15.0)
OTHERS = ([(14.0, 0.0, 5.0)], [], [(9.0, 3.6, 8.0), (-9.0, 0.0, 11.0)])
SPEEDS = (10.0, 5.0, 9.0)

HORIZON = 8

STATED = {"gradient": (0.05, 30), "lbfgs": (0.02, 30), "cem_gradient": (0.05, 700), "shooting": (0.7, 2000)}
"""Gap to the optimum that a planner reaches, and within how many evaluations of a scene."""
USUAL = (0.05, 2000)
RANDOM = {"cem", "cem_gradient", "icem", "mppi", "shooting"}


def make_planner(name: str, *, vehicles=OTHERS, cost=COST, **options) -> OnlinePlanner:
    config = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))
    inner = {key: value for key, value in config["planner"].items() if key not in ("model", "cost")}
    shortened = {**inner, "horizon": HORIZON, "_partial_": True}
    planner = build(shortened)(make_model(*vehicles), cost, **options)
    assert isinstance(planner, WarmPlanner)
    return planner


def test_every_configuration_is_a_planner_with_memory() -> None:
    for name in NAMES:
        config = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))
        built = build({**config, "planner": make_planner(name)})
        assert isinstance(built, RecedingHorizon) and isinstance(built, Planner)


# --- Known answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [problems.double_integrator, problems.coupled_regulator])
@pytest.mark.parametrize("name", NAMES)
def test_it_comes_close_to_the_riccati_solution(name: str, make: Callable[[], Problem]) -> None:
    epsilon, limit = STATED.get(name, USUAL)
    count = evaluations_until(make_planner(name).optimizer, make(), epsilon=epsilon, limit=limit)
    assert count <= limit


@pytest.mark.parametrize("name", NAMES)
def test_no_answer_is_better_than_the_riccati_solution(name: str) -> None:
    problem = problems.double_integrator()
    found = solve(name, problem)
    assert problem.gap(found.cost) >= -1e-5
    torch.testing.assert_close(problem.objective(found.argument[:, None])[:, 0], found.cost)


@pytest.mark.parametrize("name", NAMES)
def test_it_finds_its_way_through_an_obstacle_course(name: str) -> None:
    problem, (_, limit) = problems.obstacle_course(), STATED.get(name, USUAL)
    assert problems.depth(problem.start).item() > 0.5
    assert evaluations_until(make_planner(name).optimizer, problem, epsilon=0.3, limit=limit) <= limit
    found = solve(name, problem)
    assert problems.depth(found.argument[:, None]).item() < 0.25


@pytest.mark.parametrize("name", NAMES)
def test_it_finds_the_deeper_of_two_valleys(name: str) -> None:
    problem, (_, limit) = problems.two_valleys(), STATED.get(name, USUAL)
    assert evaluations_until(make_planner(name).optimizer, problem, epsilon=0.1, limit=limit) <= limit


def test_one_start_ends_in_the_shallow_valley() -> None:
    """So the problem does tell planners apart."""
    problem = problems.two_valleys()
    found = adam(problem.objective, problem.start[:, :1], low=LOW, high=HIGH, num_iterations=100)
    assert problem.gap(found.cost) > 0.3


def test_the_riccati_feedback_attains_the_optimum_within_the_bounds() -> None:
    for problem in (problems.double_integrator(), problems.coupled_regulator()):
        assert problem.best is not None and problem.best.abs().max() < 1.0
        torch.testing.assert_close(problem.objective(problem.best[:, None])[:, 0], problem.optimum)


# --- What all planners promise ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_batched_equals_looped(name: str) -> None:
    problem = problems.double_integrator()
    together = solve(name, problem)
    for row in range(3):
        alone = solve(name, problem[row])
        torch.testing.assert_close(alone.argument[0], together.argument[row], atol=1e-4, rtol=1e-4)
    planner, obs = make_planner(name), make_obs(*SPEEDS)
    plan = planner.plan(obs)
    alone = planner.plan(obs[1:2])
    torch.testing.assert_close(alone.action[0], plan.action[1], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_plans_obey_the_bounds_and_repeat(name: str) -> None:
    bounds = ActionBounds(accel=(-4.0, 2.0), lateral=2.0)
    planner, obs = make_planner(name, vehicles=([(8.0, 0.0, 0.0)],), bounds=bounds), make_obs(12.0)
    plan = planner.plan(obs)
    assert plan.action[..., 0].min() >= -4.0 - 1e-5 and plan.action[..., 0].max() <= 2.0 + 1e-5
    assert plan.action[..., 1].abs().max() <= 2.0 / 144 + 1e-6
    assert torch.equal(planner.plan(obs).action, plan.action)
    planner.reset(seed=1)
    assert torch.equal(planner.plan(obs).action, plan.action) == (name not in RANDOM)
    planner.reset(seed=0)
    assert torch.equal(planner.plan(obs).action, plan.action)


@pytest.mark.parametrize("name", NAMES)
def test_plans_beat_doing_nothing_and_cost_what_they_say(name: str) -> None:
    planner, obs = make_planner(name), make_obs(*SPEEDS)
    plan, objective = planner.plan(obs), make_objective(planner.model, COST, obs)
    nothing = objective(torch.zeros(3, 1, HORIZON, 2))[:, 0]
    assert (plan.cost <= nothing + 1e-5).all() and plan.cost.sum() < nothing.sum() - 0.1
    torch.testing.assert_close(objective(plan.action[:, None])[:, 0], plan.cost)
    assert not plan.action.requires_grad and not plan.cost.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_a_warm_start_is_never_made_worse(name: str) -> None:
    planner, obs = make_planner(name), make_obs(*SPEEDS)
    first = planner.plan(obs)
    again = planner.plan(obs, warm_start=first.action[:, None])
    assert (again.cost <= first.cost + 1e-4).all()
    problem = problems.double_integrator()
    found = solve(name, problem)
    better = solve(name, replace(problem, start=torch.stack([found.argument, problem.start[:, 0]], dim=1)))
    assert (better.cost <= found.cost).all()


@pytest.mark.parametrize("name", NAMES)
def test_nan_ranks_last(name: str) -> None:
    """Half of all actions cost NaN: the best of the others is found, in scenes where there are others."""

    def objective(point: Tensor) -> Tensor:
        cost = (point + 0.3).square().mean((2, 3))
        return torch.where(point.mean((2, 3)) > 0.05, math.nan, cost)

    start = torch.tensor([0.5, 0.0])[None, :, None, None].expand(1, 2, 3, 1).clone()
    found = make_planner(name).optimizer(
        objective, start, low=LOW, high=HIGH, generator=torch.Generator().manual_seed(0)
    )
    assert found.cost.item() < 0.5 * 0.09

    lost = make_planner(name).optimizer(
        lambda point: point.sum((2, 3)) * math.nan, start, low=LOW, high=HIGH,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert lost.cost.item() == math.inf and torch.equal(lost.argument, start[:, 0])


@pytest.mark.parametrize("name", NAMES)
def test_a_scene_whose_cost_is_nan_does_not_touch_the_others(name: str) -> None:
    def broken(rollout: Rollout) -> CostTerms:
        terms = COST(rollout)
        is_lost = (rollout.size[:, :1] > 10.0).expand_as(terms.total)
        spoilt = {key: torch.where(is_lost, math.nan, value) for key, value in terms.terms.items()}
        return CostTerms(spoilt, terms.weights)

    obs = make_obs(*SPEEDS)
    lost = replace(obs, size=obs.size * torch.tensor([[1.0], [9.0], [1.0]]))
    plan = make_planner(name, cost=broken).plan(lost)
    assert plan.cost[1] == math.inf and plan.action.isfinite().all()
    expected = make_planner(name).plan(obs[::2])
    torch.testing.assert_close(plan.action[::2], expected.action, atol=1e-3, rtol=1e-3)


class Doubtful:
    """An empty road of which the model is unsure ahead of the ego's middle."""

    def __call__(self, obs: Obs, num_steps: int) -> Context:
        image = torch.zeros(obs.batch_size, num_steps, 1, SPEC.height, SPEC.width)
        variance = image.clone()
        variance[..., : SPEC.height // 2, :] = 0.2
        return Context(image, variance)


@pytest.mark.parametrize("name", NAMES)
def test_doubt_is_a_cost_like_any_other(name: str) -> None:
    """In the frame that keeps up with the ego, who speeds up gets deeper into doubt."""
    term = Uncertainty(mean=[0.0] * HORIZON, std=[0.02] * HORIZON, spec=SPEC, hinge=0.0)
    sure, wary = (
        motorway_cost(
            SPEC, target_speed=30.0, extra=(term,), weights={"uncertainty": weight, "progress": 9.0}
        )
        for weight in (0.0, 20.0)
    )
    obs, found = make_obs(10.0), {}
    for key, cost in (("sure", sure), ("wary", wary)):
        planner = make_planner(name, cost=cost)
        planner.model = FixedContext(Doubtful(), horizon=HORIZON)
        found[key] = planner.plan(obs).action
    rollout = make_rollout(planner, obs, found)
    assert footprint_variance(rollout, SPEC).mean(1).diff().item() < -1e-4


def make_rollout(planner: OnlinePlanner, obs: Obs, found: dict[str, Tensor]) -> Rollout:
    hidden = planner.model.init(obs)[torch.zeros(2, dtype=torch.long)]
    return planner.model.unroll(hidden, torch.cat(list(found.values())), torch.zeros(2, HORIZON, 0))


@pytest.mark.parametrize("name", NAMES)
def test_time_is_kept_to_an_iteration(name: str) -> None:
    """The clock ticks a millisecond for every call of the objective."""
    now, calls = 0.0, []

    def counted(*args, **kwargs):
        objective = make_objective(*args, **kwargs)

        def tick(actions: Tensor) -> Tensor:
            nonlocal now
            now += 1e-3
            calls.append(now)
            return objective(actions)

        return tick

    planner, obs = make_planner(name, objective_fn=counted, clock=lambda: now), make_obs(10.0)
    whole = planner.plan(obs[:1])
    num_calls, now = len(calls), 0.0
    calls.clear()
    hurried = planner.plan(obs[:1], budget_ms=2.5)
    assert len(calls) == 3 < num_calls
    assert whole.cost.item() <= hurried.cost.item() < math.inf
    now = 0.0
    calls.clear()
    generous = planner.plan(obs[:1], budget_ms=1e6)
    assert torch.equal(generous.action, whole.action) and len(calls) == num_calls


def solve(name: str, problem: Problem):
    generator = torch.Generator().manual_seed(0)
    return make_planner(name).optimizer(
        problem.objective, problem.start, low=LOW, high=HIGH, generator=generator
    )
