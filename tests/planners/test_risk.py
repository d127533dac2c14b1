"""Objectives over several futures, in a world whose future is one number that the costs can see."""

import math
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch import Generator, Tensor

from planners import OnlinePlanner, adam, make_latent_objective, make_member_objective
from planners.risk import cvar, mean, worst
from tests.planners.factories import make_obs
from worldmodel.models import EnsembleMembers
from worldmodel.scene import rollout
from worldmodel.types import CostTerms, Indexed, Obs, Rollout


@dataclass(frozen=True)
class Wind(Indexed):
    """Speed of the ego, and a shift of its own."""

    start: Tensor
    shift: Tensor


class WindyWorld:
    """A `WorldModel` in which a wind, constant over the horizon, is drawn from N(shift, 1)."""

    dt = 0.1

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift

    def init(self, obs: Obs) -> Wind:
        start = torch.cat([torch.zeros_like(obs.state[:, -1, :3]), obs.state[:, -1, 3:]], dim=-1)
        return Wind(start, torch.full_like(start[:, 0], self.shift))

    def sample_latent(self, hidden: Wind, num_steps: int, generator: Generator | None = None) -> Tensor:
        wind = torch.randn(len(hidden.start), 1, 1, generator=generator)
        return wind.expand(-1, num_steps, -1)

    def step(self, hidden: Wind, action: Tensor, latent: Tensor):
        raise NotImplementedError

    def unroll(self, hidden: Wind, action: Tensor, latent: Tensor) -> Rollout:
        wind = (latent + hidden.shift[:, None, None])[..., None, None]
        ego = rollout(hidden.start, action, self.dt)
        nothing = torch.zeros_like(hidden.start[:, :2])
        return Rollout(wind, ego, ego[..., :3], action, nothing, nothing, wind[:, 0])


def against_the_wind(rollout: Rollout) -> CostTerms:
    """The square of acceleration minus wind."""
    away = rollout.action[..., 0] - rollout.image[..., 0, 0, 0]
    return CostTerms({"away": away.square()}, {"away": 1.0})


def constant(*accel: float, num_scenes: int = 1) -> Tensor:
    actions = torch.zeros(num_scenes, len(accel), 5, 2)
    actions[..., 0] = torch.tensor(accel)[:, None]
    return actions


WIND = torch.randn(8, generator=Generator().manual_seed(3))
"""The latents of seed 3."""


def test_risks_by_hand() -> None:
    cost = torch.tensor([[[1.0, 4.0, 2.0, 3.0]]])
    assert mean(cost).item() == 2.5 and worst(cost).item() == 4.0
    assert cvar(cost, share=0.5).item() == 3.5
    assert cvar(cost, share=1.0).item() == mean(cost).item()
    assert cvar(cost, share=0.01).item() == worst(cost).item()
    assert all(math.isnan(risk(cost.clone().fill_(math.nan)).item()) for risk in (mean, worst, cvar))
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match="expected more than 0 and at most 1"):
            cvar(cost, share=share)


@pytest.mark.parametrize("risk", [mean, worst, partial(cvar, share=0.5)])
def test_every_candidate_meets_the_same_winds(risk) -> None:
    objective = make_latent_objective(
        WindyWorld(), against_the_wind, make_obs(10.0), discount=1.0, num_latents=8, risk=risk, seed=3
    )
    accel = (-1.0, 0.0, 0.7)
    cost = (torch.tensor(accel)[:, None] - WIND).square()
    torch.testing.assert_close(objective(constant(*accel)), risk(cost[None]))
    torch.testing.assert_close(objective(constant(0.7)), risk(cost[None])[:, 2:])


@pytest.mark.parametrize(
    ("risk", "best"), [(mean, WIND.mean()), (worst, (WIND.min() + WIND.max()) / 2)], ids=["mean", "worst"]
)
def test_the_plan_is_the_answer_to_the_risk(risk, best: Tensor) -> None:
    """The mean of squares is least at the mean, the largest square at the middle of the range."""
    planner = OnlinePlanner(
        WindyWorld(), against_the_wind, partial(adam, num_iterations=300, learning_rate=0.01),
        horizon=5, num_knots=1, discount=1.0,
        objective_fn=partial(make_latent_objective, num_latents=8, risk=risk, seed=3),
    )  # fmt: skip
    plan = planner.plan(make_obs(10.0))
    torch.testing.assert_close(plan.action[0, :, 0], best.expand(5), atol=0.03, rtol=0)


def test_a_scene_meets_the_same_winds_whatever_it_is_batched_with() -> None:
    obs = make_obs(10.0, 5.0, 8.0)
    make = partial(make_latent_objective, WindyWorld(), against_the_wind, num_latents=4, risk=worst)
    together = make(obs)(constant(0.5, num_scenes=3))
    for row in range(3):
        assert torch.equal(make(obs[row : row + 1])(constant(0.5)), together[row : row + 1])


def test_members_are_futures_too() -> None:
    shifts, accel = (-1.0, 0.5, 2.0), (-0.5, 1.0)
    members = EnsembleMembers([WindyWorld(shift) for shift in shifts])
    objective = make_member_objective(
        members, against_the_wind, make_obs(10.0), discount=1.0, risk=worst, seed=3
    )
    seed = int(torch.randint(2**62, (), generator=Generator().manual_seed(3)))  # the members share a draw
    winds = torch.tensor(shifts) + torch.randn(1, generator=Generator().manual_seed(seed))
    expected = (torch.tensor(accel)[:, None] - winds).square().amax(1)
    torch.testing.assert_close(objective(constant(*accel))[0], expected)


def test_a_broken_future_ranks_last() -> None:
    def broken(rollout: Rollout) -> CostTerms:
        terms = against_the_wind(rollout)
        lost = torch.where(rollout.image[..., 0, 0, 0] > WIND.max() - 0.01, math.nan, terms.terms["away"])
        return replace(terms, terms={"away": lost})

    objective = make_latent_objective(WindyWorld(), broken, make_obs(10.0), num_latents=8, seed=3)
    assert objective(constant(0.0)).isnan().all()
