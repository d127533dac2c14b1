"""Policies as planners: they conform, they are their policy's action, and the hybrid is never worse."""

from functools import partial

import pytest
import torch

from planners import GradientPlanner, RecedingHorizon, WarmPlanner, make_latent_objective, make_objective
from planners.policy import PolicyPlanner, PolicyProposal, start_from, view_of
from planners.policy.imagine import travel
from planners.risk import mean, worst
from tests.models.factories import HISTORY, SPEC, make_obs
from tests.planners.policy.factories import make_policy, with_road
from worldmodel.costs import motorway_cost
from worldmodel.models import CopyContext, EgoSplit, FixedContext, ForwardModel, GaussianLatent
from worldmodel.protocols import Planner
from worldmodel.scene import kinematics
from worldmodel.types import Obs

COST = motorway_cost(SPEC, target_speed=15.0)
HORIZON = 10


def make_scene(batch: int = 2, **kwargs) -> Obs:
    obs = with_road(make_obs(batch, **kwargs))
    assert isinstance(obs, Obs)
    return obs


def make_world(kind: str):
    if kind == "fixed":
        return FixedContext(CopyContext(SPEC), horizon=HORIZON)
    torch.manual_seed(0)
    return EgoSplit(ForwardModel(spec=SPEC, history=HISTORY, channels=8).eval().requires_grad_(False))


def make_hybrid(policy, *, kind: str = "fixed", **options) -> PolicyProposal:
    options = {"horizon": HORIZON, "num_knots": 3, "num_iterations": 3} | options
    return PolicyProposal(policy, GradientPlanner(make_world(kind), COST, **options))


def test_the_planner_does_what_the_policy_says() -> None:
    policy, obs = make_policy(), make_scene(3)
    planner = PolicyPlanner(policy)
    assert isinstance(planner, Planner)
    planner.reset(seed=1)
    plan = planner.plan(obs)
    torch.testing.assert_close(plan.action[:, 0], policy(view_of(obs, policy.view_spec)))
    start = torch.tensor([[0.0, 0.0, 0.0, 10.0]]).expand(3, -1)
    torch.testing.assert_close(plan.ego[:, 0], kinematics.step(start, plan.action[:, 0], 0.1))
    assert not plan.action.requires_grad and plan.cost.shape == (3,)
    torch.testing.assert_close(planner.plan(obs[1:2]).action[0], plan.action[1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fixed", "split"])
@pytest.mark.parametrize("num_iterations", [1, 4])
def test_the_hybrid_is_never_worse_than_the_proposal(kind: str, num_iterations: int) -> None:
    for seed in range(3):
        policy, obs = make_policy(seed=seed, scale=1.0), make_scene(3, relative_speed=-4.0)
        hybrid = make_hybrid(policy, kind=kind, num_iterations=num_iterations)
        assert isinstance(hybrid, WarmPlanner)
        plan = hybrid.plan(obs)
        start = start_from(
            hybrid.planner.model, obs, horizon=HORIZON, generator=torch.Generator().manual_seed(0)
        )
        proposal = torch.stack(travel(policy, start).actions, dim=1).detach()
        objective = make_objective(hybrid.planner.model, COST, obs)
        assert proposal.abs().max() > 0.1
        assert (plan.cost <= objective(proposal[:, None])[:, 0] + 1e-5).all()
        torch.testing.assert_close(objective(plan.action[:, None])[:, 0], plan.cost, atol=1e-4, rtol=1e-4)


def make_uncertain_world() -> EgoSplit:
    torch.manual_seed(0)
    latent = GaussianLatent(channels=8, features=16, dim=4)
    model = ForwardModel(spec=SPEC, history=HISTORY, channels=8, latent=latent)
    for part in model.parameters():  # at birth it copies, whatever the latent says
        torch.nn.init.normal_(part, std=0.1) if part.ndim > 1 else None
    return EgoSplit(model.eval().requires_grad_(False))


@pytest.mark.slow
def test_the_hybrid_is_never_worse_by_the_risk_that_its_planner_minimises() -> None:
    world = make_uncertain_world()
    risky, expected = (partial(make_latent_objective, num_latents=3, risk=risk) for risk in (worst, mean))
    options = {"horizon": HORIZON, "num_knots": 3, "num_iterations": 1, "objective_fn": risky}
    for seed in range(3):
        policy, obs = make_policy(seed=seed, scale=1.0), make_scene(2, relative_speed=-4.0)
        plan = PolicyProposal(policy, GradientPlanner(world, COST, **options)).plan(obs)
        start = start_from(world, obs, horizon=HORIZON, generator=torch.Generator().manual_seed(0))
        proposal = torch.stack(travel(policy, start).actions, dim=1).detach()
        objective = risky(world, COST, obs, discount=0.99)
        assert (plan.cost <= objective(proposal[:, None])[:, 0] + 1e-5).all()
        found = objective(plan.action[:, None])[:, 0]
        torch.testing.assert_close(found, plan.cost, atol=1e-4, rtol=1e-4)
        assert (found > expected(world, COST, obs, discount=0.99)(plan.action[:, None])[:, 0] + 1e-3).all()


def test_the_hybrid_reads_the_history_once() -> None:
    hybrid, count = make_hybrid(make_policy()), []
    init = hybrid.planner.model.init
    hybrid.planner.model.init = lambda obs: count.append(1) or init(obs)  # type: ignore[method-assign]
    hybrid.plan(make_scene())
    assert len(count) == 1


def test_a_proposal_that_cannot_be_improved_is_the_plan() -> None:
    policy, obs = make_policy(scale=1.0), make_scene()
    hybrid = make_hybrid(policy)
    hybrid.planner.improve = lambda objective, speed, **kwargs: _bad(hybrid, obs)  # type: ignore[method-assign]
    plan = hybrid.plan(obs)
    start = start_from(hybrid.planner.model, obs, horizon=HORIZON)
    torch.testing.assert_close(plan.action, torch.stack(travel(policy, start).actions, dim=1).detach())
    assert plan.cost.isfinite().all()


def _bad(hybrid: PolicyProposal, obs: Obs):
    plan = GradientPlanner(hybrid.planner.model, COST, horizon=HORIZON, num_knots=3, num_iterations=0).plan(
        obs
    )
    plan.cost.fill_(torch.inf)
    return plan


def test_it_keeps_its_last_plan_as_a_start_inside_a_receding_horizon() -> None:
    policy, obs = make_policy(), make_scene()
    hybrid = make_hybrid(policy)
    starts = []
    improve = hybrid.planner.improve

    def spy(objective, speed, *, starts_seen=starts, **kwargs):
        starts_seen.append(kwargs["starts"])
        return improve(objective, speed, **kwargs)

    hybrid.planner.improve = spy  # type: ignore[method-assign]
    planner = RecedingHorizon(hybrid, replan_every=1)
    assert isinstance(planner, Planner)
    planner.plan(obs)
    planner.plan(obs)
    assert starts[0].shape[1] == 1 and starts[1].shape[1] == 2
