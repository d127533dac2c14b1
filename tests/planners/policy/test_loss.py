"""What policies are trained on: known values, known zeros, known optima."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from planners.policy import (
    Adversarial,
    ContextStart,
    Disagreement,
    Distillation,
    ExpertDistance,
    GaussianHead,
    ImaginedCost,
    Imitation,
    MixtureHead,
    PolicyLossFn,
    Posterior,
    PosteriorContextStart,
    Value,
    ValueNetwork,
    WorldStart,
    imagine_through_views,
    load_ensemble,
    view_of,
)
from planners.policy.loss import discounts
from planners.policy.start import _fixed
from planners.policy.value import returns
from tests.models.factories import HISTORY, HORIZON, SPEC, make_clip
from tests.planners.policy.factories import PointWorld, make_policy, with_road
from worldmodel.costs import DisagreementPenalty, motorway_cost
from worldmodel.models import (
    Context,
    CopyContext,
    EgoSplit,
    ForwardModel,
    GaussianLatent,
    dropout_members,
    ensemble_members,
    save_model,
)
from worldmodel.scene import kinematics
from worldmodel.types import Clip, CostTerms, Obs, Rollout

COST = motorway_cost(SPEC, target_speed=15.0)


def make_generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def make_window(batch: int = 2, **kwargs) -> Clip:
    clip = with_road(make_clip(batch, **kwargs))
    assert isinstance(clip, Clip)
    return clip


def make_model(*, latent=None, seed: int = 0, dropout: float = 0.3) -> ForwardModel:
    torch.manual_seed(seed)
    model = ForwardModel(spec=SPEC, history=HISTORY, channels=8, latent=latent, dropout=dropout)
    for part in model.parameters():  # at birth it copies, whatever latent and dropout say
        torch.nn.init.normal_(part, std=0.1) if part.ndim > 1 else None
    return model.eval().requires_grad_(False)


class CopyStart:
    """Every other car keeps its offset."""

    history = HISTORY

    def __call__(self, policy, clip, *, horizon, generator):
        return _fixed(CopyContext(SPEC), clip.obs(HISTORY), horizon=horizon, dt=0.1)


def position_cost(rollout: Rollout) -> CostTerms:
    return CostTerms({"x": rollout.ego[..., 0]}, {"x": 2.0})


def test_the_imagined_cost_is_discounted_and_averaged() -> None:
    policy, clip = make_policy(scale=0.0), make_window(speed=10.0)
    loss = ImaginedCost(CopyStart(), position_cost, horizon=3, discount=0.5)(
        policy, clip, generator=make_generator()
    )
    expected = 2.0 * (1.0 + 0.5 * 2.0 + 0.25 * 3.0) / 3
    assert loss.total.item() == pytest.approx(expected)
    assert loss.terms["cost/x"].item() == pytest.approx(expected)
    torch.testing.assert_close(discounts(3, 0.5, like=torch.zeros(1)) * 3, torch.tensor([1.0, 0.5, 0.25]))


def test_svgs_gradient_is_that_of_finite_differences() -> None:
    policy, clip = make_policy(), make_window()
    loss_fn = ImaginedCost(
        WorldStart(PointWorld(0.3), history=HISTORY, num_futures=3),
        lambda rollout: CostTerms(
            {"x": rollout.ego[..., 0].square() + rollout.image.mean((-3, -2, -1))}, {"x": 1.0}
        ),
        horizon=5,
        imagine_fn=imagine_through_views,
    )

    def loss() -> Tensor:
        return loss_fn(policy, clip, generator=make_generator(3)).total

    weight = policy.head.linear.weight
    direction = torch.randn_like(weight)
    loss().backward()
    with torch.no_grad():
        weight += 1e-2 * direction
        above = loss()
        weight -= 2e-2 * direction
        below = loss()
    assert float((weight.grad * direction).sum()) == pytest.approx(float(above - below) / 2e-2, rel=0.02)


@pytest.mark.parametrize("num_futures", [1, 3])
def test_futures_are_rows_with_latents_of_their_own(num_futures: int) -> None:
    start = WorldStart(PointWorld(), history=HISTORY, num_futures=num_futures)(
        make_policy(), make_window(2), horizon=4, generator=make_generator()
    )
    assert start.latent.shape == (2 * num_futures, 4, 1) and start.obs.batch_size == 2 * num_futures
    assert len(start.latent.flatten().unique()) == 8 * num_futures
    torch.testing.assert_close(start.obs.state[0], start.obs.state[num_futures - 1])


def test_imitation_is_the_likelihood_of_the_recorded_action() -> None:
    policy, clip = make_policy(MixtureHead(8, num=3)), make_window(3)
    clip.action[:, HISTORY - 1] = torch.tensor([[0.5, 0.001], [-1.0, 0.0], [0.0, -0.002]])
    loss = Imitation(history=HISTORY)(policy, clip, generator=make_generator()).total
    view = view_of(clip.obs(HISTORY), policy.view_spec)
    logit, mean, log_std = policy.head.parameters_of(policy.encoder(view))
    density = MixtureSameFamily(Categorical(logits=logit), Independent(Normal(mean, log_std.exp()), 1))
    raw = policy.to_raw(clip.action[:, HISTORY - 1], clip.state[:, HISTORY - 1, 3])
    torch.testing.assert_close(loss, -density.log_prob(raw).mean())


def accelerated(clip: Clip, accel: float) -> Clip:
    """The clip of a driver who accelerates from the newest frame on; the rasters stay as they were."""
    action = clip.action.clone()
    action[:, HISTORY - 1 :, 0] = accel
    future = kinematics.rollout(clip.state[:, HISTORY - 1], action[:, HISTORY - 1 :], 0.1)
    return replace(clip, action=action, state=torch.cat([clip.state[:, :HISTORY], future], dim=1))


class RecordedStart:
    """Knows the recorded future."""

    history = HISTORY

    def __call__(self, policy, clip, *, horizon, generator):
        def source(obs: Obs, num_steps: int) -> Context:
            return Context(clip.image[:, HISTORY : HISTORY + num_steps, 1:2].float() / 255)

        return _fixed(source, clip.obs(HISTORY), horizon=horizon, dt=0.1)


def test_mper_is_zero_for_the_expert_and_for_nobody_else() -> None:
    policy, loss_fn = make_policy(scale=0.0), ExpertDistance(RecordedStart(), SPEC, horizon=6)
    clip = make_window()  # whose driver keeps speed and heading, as this policy does
    loss = loss_fn(policy, clip, generator=make_generator())
    assert loss.total.item() == pytest.approx(0.0, abs=1e-8)
    other = loss_fn(policy, accelerated(clip, 2.0), generator=make_generator())
    assert other.terms["state"] > 1e-3 and other.terms["image"] > 1e-4


def test_mper_pulls_towards_the_expert() -> None:
    policy, clip = make_policy(scale=0.0), accelerated(make_window(), 2.0)
    ExpertDistance(RecordedStart(), SPEC, horizon=6)(
        policy, clip, generator=make_generator()
    ).total.backward()
    assert policy.head.linear.bias.grad[0] < 0.0


def test_disagreement_is_measured_on_recorded_driving_and_added() -> None:
    model, clip = make_model(), make_window(4)
    extra = Disagreement(
        lambda *, generator: dropout_members(model, num=3, generator=generator),
        COST,
        DisagreementPenalty(horizon=5, hinge=0.0),
        weight=0.5,
    )
    start = WorldStart(EgoSplit(model), history=HISTORY)
    loss_fn = ImaginedCost(start, COST, horizon=5, extras=(extra,))
    policy = make_policy()
    with pytest.raises(ValueError, match="no statistics yet"):
        loss_fn(policy, clip, generator=make_generator())
    loss_fn.prepare([clip, clip], generator=make_generator())
    loss = loss_fn(policy, clip, generator=make_generator())
    assert loss.terms["uncertainty"] > 0.0
    torch.testing.assert_close(loss.total.detach(), loss.terms["cost"] + 0.5 * loss.terms["uncertainty"])
    loss.total.backward()
    assert policy.head.linear.weight.grad.abs().sum() > 0
    assert all(part.grad is None for part in model.parameters())


def test_an_ensemble_disagrees_where_dropout_copies_would() -> None:
    models, clip, policy = [make_model(seed=seed) for seed in range(3)], make_window(4), make_policy()
    penalty = DisagreementPenalty(horizon=5, hinge=0.0)
    extra = Disagreement(partial(ensemble_members, models=models), COST, penalty)
    start = WorldStart(EgoSplit(models[0]), history=HISTORY)
    loss_fn = ImaginedCost(start, COST, horizon=5, extras=(extra,))
    loss_fn.prepare([clip], generator=make_generator())
    loss = loss_fn(policy, clip, generator=make_generator())
    assert loss.terms["uncertainty"] > 0.0
    plain = make_policy()
    loss.total.backward()
    ImaginedCost(start, COST, horizon=5)(plain, clip, generator=make_generator()).total.backward()
    apart = policy.head.linear.weight.grad - plain.head.linear.weight.grad
    assert apart.abs().max() > 1e-6  # of the members' disagreement
    same = Disagreement(partial(ensemble_members, models=models[:1] * 3), COST, penalty)
    alike = ImaginedCost(start, COST, horizon=5, extras=(same,))(policy, clip, generator=make_generator())
    assert alike.terms["uncertainty"] < loss.terms["uncertainty"]


def test_an_ensemble_is_of_two_or_more_models_without_latents(tmp_path: Path) -> None:
    deterministic, stochastic = (str(tmp_path / name) for name in ("a.pt", "b.pt"))
    save_model(make_model(), deterministic)
    save_model(make_model(latent=GaussianLatent(channels=8, features=16, dim=4)), stochastic)
    loaded = load_ensemble([deterministic] * 2)
    assert not any(part.requires_grad for one in loaded for part in one.parameters())
    with pytest.raises(ValueError, match=r"got 1 checkpoints.* at least two"):
        load_ensemble([deterministic])
    with pytest.raises(ValueError, match=r"b\.pt has a latent"):
        load_ensemble([deterministic, stochastic])


def test_adversarial_latents_cost_more() -> None:
    policy, clip = make_policy(), make_window()
    world = PointWorld()

    def grey(rollout: Rollout) -> CostTerms:
        return CostTerms({"grey": rollout.image.mean((-3, -2, -1))}, {"grey": 1.0})

    plain = WorldStart(world, history=HISTORY)(policy, clip, horizon=4, generator=make_generator())
    worse = WorldStart(world, history=HISTORY, latent_fn=Adversarial(grey, share=1.0))(
        policy, clip, horizon=4, generator=make_generator()
    )
    assert (worse.latent > plain.latent).all()
    assert not worse.latent.requires_grad
    half = WorldStart(world, history=HISTORY, latent_fn=Adversarial(grey, share=0.5))(
        policy, make_window(64), horizon=4, generator=make_generator()
    )
    plain = WorldStart(world, history=HISTORY)(policy, make_window(64), horizon=4, generator=make_generator())
    is_moved = (half.latent != plain.latent).any(-1).any(-1)
    assert 16 < int(is_moved.sum()) < 48


def test_adversarial_latents_need_a_latent() -> None:
    start = WorldStart(EgoSplit(make_model()), history=HISTORY, latent_fn=Adversarial(COST))
    with pytest.raises(ValueError, match="no latent to move"):
        start(make_policy(), make_window(), horizon=4, generator=make_generator())


def test_a_policy_that_draws_its_actions_learns_in_a_model_with_a_latent() -> None:
    stochastic = make_model(latent=GaussianLatent(channels=8, features=16, dim=4))
    drawing, sure = make_policy(GaussianHead(8)), make_policy()
    for policy, model in ((drawing, stochastic), (sure, stochastic), (sure, make_model())):
        ImaginedCost(ContextStart(model), COST, horizon=2)(policy, make_window(), generator=make_generator())
    with pytest.raises(ValueError, match="no latent to draw the others' future"):
        loss_fn = ImaginedCost(ContextStart(make_model()), COST, horizon=2)
        loss_fn(drawing, make_window(), generator=make_generator())


def test_posterior_latents_are_held_for_a_step_of_the_core() -> None:
    model, clip = make_model(latent=GaussianLatent(channels=8, features=16, dim=4)), make_window()
    start = WorldStart(EgoSplit(model), history=HISTORY, latent_fn=Posterior(model, stride=model.stride))(
        make_policy(), clip, horizon=HORIZON, generator=make_generator()
    )
    inferred = model.infer_latents(clip, None)
    assert start.latent.shape == (2, HORIZON, 4) and inferred.shape == (2, HORIZON // model.stride, 4)
    assert torch.equal(start.latent[:, 0], start.latent[:, model.stride - 1])
    assert not torch.equal(start.latent[:, 0], start.latent[:, model.stride])
    with pytest.raises(ValueError, match=r"stride=2 steps.* lasts 5"):
        Posterior(model, stride=2)


def test_contexts_are_drawn_anew_for_every_batch() -> None:
    model, clip, policy = (
        make_model(latent=GaussianLatent(channels=8, features=16, dim=4)),
        make_window(),
        make_policy(),
    )
    generator = make_generator()
    one, other = (
        ContextStart(model, num_masks=2)(policy, clip, horizon=5, generator=generator) for _ in range(2)
    )
    assert not torch.allclose(one.hidden.context.image, other.hidden.context.image)
    assert one.hidden.context.variance is not None
    same = ContextStart(model, num_masks=2)(policy, clip, horizon=5, generator=make_generator())
    torch.testing.assert_close(one.hidden.context.image, same.hidden.context.image)
    known = PosteriorContextStart(model)(policy, clip, horizon=5, generator=make_generator())
    assert known.hidden.context.image.shape == (2, 5, 1, SPEC.height, SPEC.width)


def test_returns_by_hand() -> None:
    found = returns(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([8.0]), 0.5)
    assert found.tolist() == [[1 + 1 + 1 + 1, 2 + 2 + 2, 4 + 4]]


@pytest.mark.slow
def test_the_value_learns_and_the_policy_pays_without_teaching_it() -> None:
    policy, clip = make_policy(), make_window(4)
    network = ValueNetwork(policy.view_spec, channels=4, features=8, scale=5.0)
    torch.nn.init.normal_(network.head.weight)
    loss_fn = ImaginedCost(CopyStart(), COST, horizon=5, extras=(Value(network, error_weight=0.0),))
    assert list(loss_fn.modules) == [network]
    plain = ImaginedCost(CopyStart(), COST, horizon=5)(policy, clip, generator=make_generator())
    loss = loss_fn(policy, clip, generator=make_generator())
    tail = 0.99**5 * loss.terms["value"] / 5
    torch.testing.assert_close(loss.total.detach(), plain.total.detach() + tail)
    loss.total.backward()
    assert all(part.grad is None or part.grad.abs().sum() == 0 for part in network.parameters())
    assert all(part.requires_grad for part in network.parameters())
    learning = ImaginedCost(CopyStart(), COST, horizon=5, extras=(Value(network),))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    errors = []
    for _ in range(40):
        loss = learning(policy, clip, generator=make_generator())
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        errors.append(loss.terms["value_error"].item())
    assert errors[-1] < 0.5 * errors[0]


def test_distillation_approaches_the_planner() -> None:
    policy, clip = make_policy(scale=0.0), make_window(2, speed=8.0)
    loss_fn = Distillation(
        CopyStart(), COST, drive=3, horizon=5, num_moments=2, num_knots=3, num_iterations=5
    )
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    losses = []
    for _ in range(6):
        loss = loss_fn(policy, clip, generator=make_generator())
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.total.item())
    assert losses[-1] < losses[0] - 0.2
    with pytest.raises(ValueError, match="use ContextStart"):
        Distillation(WorldStart(PointWorld(), history=HISTORY), COST, drive=2, horizon=2)(
            policy, clip, generator=make_generator()
        )


def test_they_are_all_losses() -> None:
    start = CopyStart()
    for loss_fn in (
        ImaginedCost(start, COST),
        ExpertDistance(start, SPEC),
        Imitation(),
        Distillation(start, COST),
    ):
        assert isinstance(loss_fn, PolicyLossFn)


@pytest.mark.slow
def test_it_learns_to_brake_for_a_standing_car() -> None:
    """A car 4 m ahead of the bumper comes nearer at 5 m/s; braking is the optimum."""
    torch.manual_seed(0)
    clip = make_window(8, speed=5.0, relative_speed=-5.0)
    policy = make_policy(scale=0.0)

    class Oncoming(CopyStart):
        def __call__(self, policy, clip, *, horizon, generator):
            def source(obs: Obs, num_steps: int) -> Context:
                return Context(clip.image[:, HISTORY : HISTORY + num_steps, 1:2].float() / 255)

            return _fixed(source, clip.obs(HISTORY), horizon=horizon, dt=0.1)

    loss_fn = ImaginedCost(Oncoming(), COST, horizon=HORIZON)
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = loss_fn(policy, clip, generator=make_generator())
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.total.item())
    action = policy(view_of(clip.obs(HISTORY), policy.view_spec))
    assert (action[:, 0] < -1.0).all()
    assert losses[-1] < losses[0]
