"""Imagined drives: the same by both ways, with the right gradients, and none for the world model."""

import pytest
import torch
from torch import Tensor

from planners.policy import GaussianHead, Start, imagine, imagine_through_views, start_from
from planners.policy.imagine import noise_for
from tests.models.factories import HISTORY, SPEC, make_obs
from tests.planners.policy.factories import PointWorld, make_policy, with_road
from worldmodel.models import CopyContext, EgoSplit, FixedContext, ForwardModel
from worldmodel.types import Obs

HORIZON = 6


def make_start(world, *, horizon: int = HORIZON, batch: int = 2) -> Start:
    obs = with_road(make_obs(batch, relative_speed=-3.0))
    assert isinstance(obs, Obs)
    return start_from(world, obs, horizon=horizon, generator=torch.Generator().manual_seed(0))


def make_split() -> EgoSplit:
    torch.manual_seed(0)
    return EgoSplit(ForwardModel(spec=SPEC, history=HISTORY, channels=8).eval().requires_grad_(False))


@pytest.mark.parametrize("world", [PointWorld(), FixedContext(CopyContext(SPEC), horizon=8), make_split()])
def test_both_ways_drive_alike(world) -> None:
    policy, start = make_policy(), make_start(world)
    one, other = imagine(policy, start), imagine_through_views(policy, start)
    assert one.rollout.action.abs().max() > 0.01
    for name in ("image", "ego", "view", "action"):
        torch.testing.assert_close(
            getattr(one.rollout, name), getattr(other.rollout, name), atol=1e-4, rtol=1e-4
        )
    for name in ("vehicles", "road", "ego"):
        torch.testing.assert_close(getattr(one.views, name), getattr(other.views, name), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one.last.ego, one.rollout.ego[:, -1])
    torch.testing.assert_close(one.last.image[-1], other.last.image[-1], atol=1e-4, rtol=1e-4)


def test_every_action_is_the_policys_answer_to_its_view() -> None:
    policy, start = make_policy(), make_start(PointWorld())
    dream = imagine(policy, start)
    action = policy(dream.views).unflatten(0, (-1, HORIZON))
    torch.testing.assert_close(dream.rollout.action, action)
    again = start.world.unroll(start.hidden, action, start.latent)
    torch.testing.assert_close(dream.rollout.ego, again.ego)


def loss_of(dream) -> Tensor:
    rollout = dream.rollout
    return (
        (rollout.ego[..., 0] - 3.0).square().mean()
        + rollout.image.mean()
        + rollout.ego[..., 1].square().mean()
    )


def finite_difference(value, parameter: Tensor, direction: Tensor, eps: float) -> float:
    with torch.no_grad():
        parameter += eps * direction
        above = float(value())
        parameter -= 2 * eps * direction
        below = float(value())
        parameter += eps * direction
    return (above - below) / (2 * eps)


def test_the_whole_loops_gradient_is_that_of_finite_differences() -> None:
    policy = make_policy().double()
    start = in_double(make_start(PointWorld(0.3)))
    parameter = policy.head.linear.weight
    direction = torch.randn_like(parameter)
    loss_of(imagine_through_views(policy, start)).backward()
    expected = finite_difference(
        lambda: loss_of(imagine_through_views(policy, start)), parameter, direction, 1e-5
    )
    assert float((parameter.grad * direction).sum()) == pytest.approx(expected, rel=1e-4)


def test_the_fast_gradient_holds_what_was_seen_fixed() -> None:
    policy = make_policy().double()
    start = in_double(make_start(PointWorld(0.3)))
    parameter = policy.head.linear.weight
    direction = torch.randn_like(parameter)
    views = imagine(policy, start).views

    def along_the_same_views() -> Tensor:
        action = policy(views).unflatten(0, (-1, HORIZON))
        rollout = start.world.unroll(start.hidden, action, start.latent)
        return (
            (rollout.ego[..., 0] - 3.0).square().mean()
            + rollout.image.mean()
            + rollout.ego[..., 1].square().mean()
        )

    loss_of(imagine(policy, start)).backward()
    expected = finite_difference(along_the_same_views, parameter, direction, 1e-5)
    assert float((parameter.grad * direction).sum()) == pytest.approx(expected, rel=1e-4)
    assert not views.vehicles.requires_grad


def in_double(start: Start) -> Start:
    hidden = type(start.hidden)(*(part.double() for part in vars(start.hidden).values()))
    obs = start.obs
    obs = Obs(obs.image, obs.state.double(), obs.size.double(), obs.road.double(), obs.origin, obs.scene)
    return Start(start.world, hidden, obs, start.latent.double())


def test_truncation_cuts_the_gradient_between_groups() -> None:
    policy, start = make_policy(), make_start(PointWorld())

    def gradient_of_the_first_action(detach_every: int | None) -> float:
        noise = torch.zeros(2, HORIZON, 2, requires_grad=True)
        stochastic = make_policy(GaussianHead(8))
        dream = imagine_through_views(stochastic, start, noise=noise, detach_every=detach_every)
        (gradient,) = torch.autograd.grad(dream.rollout.ego[:, -1].sum(), noise)
        return float(gradient[:, 0].abs().sum())

    assert gradient_of_the_first_action(None) > 0.0
    assert gradient_of_the_first_action(3) == 0.0
    same = imagine_through_views(policy, start, detach_every=2)
    torch.testing.assert_close(same.rollout.ego, imagine(policy, start).rollout.ego)


@pytest.mark.parametrize("way", [imagine, imagine_through_views])
def test_the_world_model_gets_no_gradient_and_the_actions_do(way) -> None:
    world, policy = make_split(), make_policy()
    dream = way(policy, make_start(world))
    dream.rollout.image.square().mean().backward()
    assert all(part.grad is None and not part.requires_grad for part in world.parameters())
    assert all(part.grad is not None for part in policy.parameters())
    assert policy.head.linear.weight.grad.abs().sum() > 0


def test_noise_is_drawn_for_stochastic_policies_only() -> None:
    start, generator = make_start(PointWorld()), torch.Generator().manual_seed(3)
    assert noise_for(make_policy(), start, generator) is None
    policy = make_policy(GaussianHead(8))
    noise = noise_for(policy, start, generator)
    assert noise is not None and noise.shape == (2, HORIZON, 2)
    one, other = imagine(policy, start, noise=noise), imagine_through_views(policy, start, noise=noise)
    torch.testing.assert_close(one.rollout.action, other.rollout.action, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(one.rollout.action, imagine(policy, start).rollout.action)
