"""Members: one function each, told apart by rows, equal to the models they are made of."""

import pytest
import torch

from tests.models.factories import HISTORY, SPEC, make_obs
from worldmodel.models import (
    CoupledModel,
    DropoutMembers,
    EgoSplit,
    EnsembleContext,
    EnsembleMembers,
    FixedContext,
    ForwardModel,
    GaussianLatent,
    LearntContext,
    Members,
    dropout_members,
    ensemble_members,
)
from worldmodel.protocols import WorldModel

NUM, STEPS = 3, 7


def make_model(seed: int = 1, *, dim: int = 3, dropout: float = 0.3, channels: int = 16) -> ForwardModel:
    torch.manual_seed(seed)
    latent = GaussianLatent(channels, 16, dim=dim) if dim else None
    model = ForwardModel(spec=SPEC, history=HISTORY, channels=channels, latent=latent, dropout=dropout)
    for name, part in model.named_parameters():
        if name.startswith(("core", "decoder")) and part.ndim > 1:
            torch.nn.init.normal_(part, std=0.05)
    return model.eval().requires_grad_(False)


def make_dropout() -> DropoutMembers:
    return dropout_members(make_model(), num=NUM, generator=torch.Generator().manual_seed(5))


def make_ensemble() -> EnsembleMembers:
    return ensemble_members([make_model(seed, dim=0) for seed in range(NUM)])


def make_coupled(seed: int = 1) -> CoupledModel:
    torch.manual_seed(seed)
    model = CoupledModel(
        spec=SPEC, history=HISTORY, latent=GaussianLatent(4, 4, dim=3), features=(4, 8, 8), width=8,
        channels=4, dropout=0.3,
    )  # fmt: skip
    for part in model.parameters():
        if part.ndim > 1:
            torch.nn.init.normal_(part, std=0.1)
    return model.eval().requires_grad_(False)


def make_coupled_dropout() -> DropoutMembers:
    return dropout_members(make_coupled(), num=NUM, generator=torch.Generator().manual_seed(5))


def make_coupled_ensemble() -> EnsembleMembers:
    return ensemble_members([make_coupled(seed) for seed in range(NUM)])


MEMBERS = {
    "dropout": make_dropout,
    "ensemble": make_ensemble,
    "coupled dropout": make_coupled_dropout,
    "coupled ensemble": make_coupled_ensemble,
}


def make_actions(rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, STEPS, 2, generator=generator) * torch.tensor([1.0, 0.01])


@pytest.mark.parametrize("name", MEMBERS)
def test_steps_equal_the_unroll_and_rows_keep_their_member(name: str) -> None:
    members = MEMBERS[name]()
    assert isinstance(members, Members) and isinstance(members, WorldModel)
    hidden = members.init(make_obs())
    assert hidden.member.tolist() == [0, 1, 2, 0, 1, 2]
    action = make_actions(2).repeat_interleave(NUM, 0)
    latent = members.sample_latent(hidden, STEPS, torch.Generator().manual_seed(0))
    rollout = members.unroll(hidden, action, latent)
    assert float(rollout.image.unflatten(0, (-1, NUM)).var(1).max()) > 1e-4
    running = hidden
    for t in range(STEPS):
        running, prediction = members.step(running, action[:, t], latent[:, t])
        torch.testing.assert_close(prediction.image, rollout.image[:, t], atol=1e-5, rtol=0)
        torch.testing.assert_close(prediction.ego, rollout.ego[:, t], atol=1e-5, rtol=0)
    rows = torch.tensor([4, 4, 2])  # as candidates of a planner: picked, repeated, out of order
    picked = members.unroll(hidden[rows], action[rows], latent[rows])
    torch.testing.assert_close(picked.image, rollout.image[rows], atol=1e-5, rtol=0)


def test_an_ensemble_row_is_what_its_model_says_alone() -> None:
    models = [make_model(seed, dim=0) for seed in range(NUM)]
    members, obs, action = ensemble_members(models), make_obs(), make_actions(2)
    hidden = members.init(obs)
    latent = torch.zeros(2 * NUM, STEPS, 0)
    rollout = members.unroll(hidden, action.repeat_interleave(NUM, 0), latent)
    for m, model in enumerate(models):
        world = EgoSplit(model)
        alone = world.unroll(world.init(obs), action, latent[:2])
        torch.testing.assert_close(rollout.image[m::NUM], alone.image, atol=1e-5, rtol=0)


def test_a_dropout_member_is_one_function_for_every_scene_and_step() -> None:
    """Member 1 of a batch is the model under row 1 of the masks, whoever else is in the batch."""
    model, obs, action = make_model(), make_obs(), make_actions(2)
    members = dropout_members(model, num=NUM, generator=torch.Generator().manual_seed(5))
    hidden = members.init(obs)
    latent = members.sample_latent(hidden, STEPS, torch.Generator().manual_seed(0))
    rollout = members.unroll(hidden, action.repeat_interleave(NUM, 0), latent)
    world = EgoSplit(model, masks=[mask[1:2] for mask in members.masks])
    alone = world.unroll(world.init(obs), action, latent[1::NUM])
    torch.testing.assert_close(rollout.image[1::NUM], alone.image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MEMBERS)
def test_members_of_a_scene_share_the_latent_and_scenes_do_not(name: str) -> None:
    stochastic = ensemble_members([make_model(seed) for seed in range(NUM)])
    members = stochastic if name == "ensemble" else MEMBERS[name]()
    hidden = members.init(make_obs())
    first, again = (members.sample_latent(hidden, STEPS, torch.Generator().manual_seed(2)) for _ in range(2))
    torch.testing.assert_close(first, again)
    grouped = first.unflatten(0, (-1, NUM))
    torch.testing.assert_close(grouped[:, :1].expand_as(grouped), grouped)
    assert (grouped[0] - grouped[1]).abs().min() > 0


def test_no_dropout_no_disagreement() -> None:
    members = dropout_members(make_model(dropout=0.0), num=NUM)
    hidden = members.init(make_obs())
    latent = members.sample_latent(hidden, STEPS, torch.Generator().manual_seed(2))
    image = members.unroll(hidden, make_actions(2).repeat_interleave(NUM, 0), latent).image
    assert float(image.unflatten(0, (-1, NUM)).var(1).max()) < 1e-10


@pytest.mark.parametrize("name", MEMBERS)
def test_disagreement_has_a_gradient_in_the_actions(name: str) -> None:
    members = MEMBERS[name]()
    hidden = members.init(make_obs())
    action = torch.zeros(2, STEPS, 2, requires_grad=True)
    latent = members.sample_latent(hidden, STEPS, torch.Generator().manual_seed(2))
    image = members.unroll(hidden, action.repeat_interleave(NUM, 0), latent).image
    image.unflatten(0, (-1, NUM)).var(1).sum().backward()
    assert action.grad is not None
    assert (action.grad[:, 0].abs() > 0).all()


def test_an_ensemble_of_contexts_reports_mean_and_variance() -> None:
    models, obs = [make_model(seed) for seed in (1, 2)], make_obs()
    sources = [LearntContext(model) for model in models]
    context = EnsembleContext(sources)(obs, 10)
    one, two = (source(obs, 10).image for source in sources)
    torch.testing.assert_close(context.image, (one + two) / 2)
    assert context.variance is not None
    torch.testing.assert_close(context.variance, (one - two).square() / 2)
    world = FixedContext(EnsembleContext(sources), horizon=10)
    rollout = world.unroll(world.init(obs), torch.zeros(2, 10, 2), torch.zeros(2, 10, 0))
    assert rollout.variance is not None


def test_one_model_is_no_ensemble_and_members_have_one_architecture() -> None:
    model = make_model()
    with pytest.raises(ValueError, match="at least two"):
        ensemble_members([model])
    with pytest.raises(ValueError, match="at least two"):
        EnsembleContext([LearntContext(model)])
    with pytest.raises(ValueError, match="one architecture"):
        ensemble_members([model, make_model(channels=8)]).init(make_obs())
