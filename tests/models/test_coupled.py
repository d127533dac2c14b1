"""The coupled model: PPUU's sizes, aligned actions, true residuals, locked masks, usable gradients."""

from dataclasses import replace

import pytest
import torch

from tests.models.factories import HISTORY, HORIZON, SPEC, make_clip, make_obs, shortened
from worldmodel.models import CoupledModel, CoupledWorld, GaussianLatent
from worldmodel.models.coupled import motions
from worldmodel.protocols import WorldModel
from worldmodel.scene import Channel, RasterSpec, comoving_views, kinematics, relative_pose
from worldmodel.types import Clip

PPUU_PARAMETERS = 15_633_543
PPUU_DETERMINISTIC_PARAMETERS = 11_784_839


def make_model(dim: int = 0, *, is_born: bool = True, **kwargs: object) -> CoupledModel:
    """A tiny model; one that `is_born` predicts more than a copy."""
    torch.manual_seed(1)
    latent = GaussianLatent(4, 4, dim=dim) if dim else None
    sizes = {"features": (8, 8, 12), "width": 16, "channels": 4, "history": HISTORY}
    model = CoupledModel(**({"spec": SPEC, "latent": latent} | sizes | kwargs))  # type: ignore[arg-type]
    if is_born:
        for head in (model.image_decoder.layers[-1], model.motion_decoder.layers.layers[-1]):
            torch.nn.init.normal_(head.weight, std=0.3)
    return model.eval()


def make_driven_clip(batch: int = 2) -> Clip:
    """A clip whose ego accelerates and turns at random, in any direction, under one car that stays ahead."""
    clip, generator = make_clip(batch), torch.Generator().manual_seed(3)
    action = torch.randn(clip.action.shape, generator=generator) * torch.tensor([2.0, 0.02])
    start = clip.state[:, 0] + torch.tensor([50.0, -3.0, 2.0, 0.0])
    state = torch.cat([start.unsqueeze(1), kinematics.rollout(start, action, 0.1)], dim=1)
    return replace(clip, state=state, action=action, view=state[..., :3])


def make_action(batch: int = 2, steps: int = 6) -> torch.Tensor:
    noise = torch.randn(batch, steps, 2, generator=torch.Generator().manual_seed(0))
    return noise * torch.tensor([1.0, 0.01])


def test_has_the_sizes_of_ppuu() -> None:
    """The deterministic model's to the last weight; the stochastic one's within 1 %."""
    assert CoupledModel().num_parameters == PPUU_DETERMINISTIC_PARAMETERS
    stochastic = CoupledModel(latent=GaussianLatent(16, 16, dim=32)).num_parameters
    assert stochastic == pytest.approx(PPUU_PARAMETERS, rel=0.01)


def test_is_born_as_the_copy_of_frame_and_motion() -> None:
    model, clip = make_model(3, is_born=False), make_driven_clip()
    unroll = model.unroll_clip(clip, use_prior=True, generator=torch.Generator().manual_seed(0))
    newest = clip.image[:, HISTORY - 1, [1, 0, 2]].unsqueeze(1) / 255
    assert unroll.logits.shape == (2, HORIZON, 3, SPEC.height, SPEC.width)
    torch.testing.assert_close(
        unroll.logits.sigmoid(), newest.expand(-1, HORIZON, -1, -1, -1), atol=0.0101, rtol=0
    )
    motion = motions(clip.state[:, :HISTORY], 0.1)[:, -1:]
    torch.testing.assert_close(unroll.motion, motion.expand(-1, HORIZON, -1))


def test_predicts_vehicles_first_whatever_the_order_of_the_raster() -> None:
    clip = make_clip()
    assert make_model().predicts == (Channel.VEHICLES, Channel.LANE, Channel.OFF_ROAD)
    torch.testing.assert_close(make_model().future_frames(clip)[:, :, 0], clip.image[:, HISTORY:, 1] / 255)
    spec = replace(SPEC, channels=(Channel.OFF_ROAD, Channel.LANE, Channel.VEHICLES))
    other = make_model(spec=spec).future_frames(replace(clip, image=clip.image[:, :, [2, 0, 1]]))
    torch.testing.assert_close(other, make_model().future_frames(clip))


def test_motions_are_what_moves_the_ego() -> None:
    """Displacement, turn and speed compose to the recorded states, and are the kinematic model's."""
    clip = make_driven_clip()
    motion = motions(clip.state, 0.1)
    speed, turn = motion[..., 3], motion[..., 2]
    torch.testing.assert_close(speed, clip.state[..., 3])
    torch.testing.assert_close(turn[:, 1:], clip.action[..., 1] * speed[:, 1:] * 0.1, atol=1e-4, rtol=0)
    torch.testing.assert_close(motion[..., 0], speed * 0.1 * turn.cos(), atol=1e-4, rtol=0)
    torch.testing.assert_close(motion[..., 1], speed * 0.1 * turn.sin(), atol=1e-4, rtol=0)


class ExactMotion(torch.nn.Module):
    """Stands in for action encoder and motion head: the kinematic model, read from the action's code."""

    def __init__(self, model: CoupledModel) -> None:
        super().__init__()
        self.model = model

    def encode_actions(self, action: torch.Tensor, masks: object = None) -> torch.Tensor:
        return action[..., None, None]

    def advance(
        self, history: object, hidden: object, drive: torch.Tensor, latent: object, masks: object = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        still = torch.zeros(len(drive), 4)
        still[:, 3] = history.motion[-1][:, 3]  # type: ignore[attr-defined]
        motion = kinematics.step(still, drive[..., 0, 0], 0.1)
        return history.image[-1], motion  # type: ignore[attr-defined]


def test_action_t_moves_state_t_to_t_plus_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """With exact kinematics for a head, the recorded actions lead to the recorded states: no off-by-one."""
    model, clip = make_model(), make_driven_clip()
    exact = ExactMotion(model)
    monkeypatch.setattr(model, "encode_actions", exact.encode_actions)
    monkeypatch.setattr(model, "advance", exact.advance)
    torch.testing.assert_close(model.unroll_clip(clip).motion, model.future_motion(clip), atol=1e-4, rtol=0)
    world = CoupledWorld(model)
    rollout = world.unroll(
        world.init(clip.obs(HISTORY)), clip.action[:, HISTORY - 1 :], torch.zeros(2, HORIZON, 0)
    )
    recorded = relative_pose(clip.state[:, HISTORY:], clip.state[:, HISTORY - 1 : HISTORY])
    torch.testing.assert_close(rollout.ego, recorded, atol=1e-3, rtol=0)
    late = replace(clip, action=clip.action.roll(1, dims=1))
    assert (model.unroll_clip(late).motion - model.future_motion(clip)).abs().max() > 0.1


def test_only_actions_from_the_newest_frame_on_matter_and_none_before_its_time() -> None:
    model, clip = make_model(), make_driven_clip()
    action = clip.action.clone().requires_grad_()
    unroll = model.unroll_clip(replace(clip, action=action))
    for tick in (0, 3):
        sums = unroll.motion[:, tick].sum() + unroll.logits[:, tick].sum()
        (gradient,) = torch.autograd.grad(sums, action, retain_graph=True)
        used = gradient.abs().sum((0, 2)).nonzero().squeeze(1).tolist()
        assert used == list(range(HISTORY - 1, HISTORY + tick))


def test_refuses_clips_drawn_from_elsewhere_and_other_rasters() -> None:
    clip = make_driven_clip()
    comoving = comoving_views(clip.state[:, HISTORY - 1], HORIZON, 0.1)
    view = torch.cat([clip.view[:, :HISTORY], comoving], dim=1)
    with pytest.raises(ValueError, match="ego_future"):
        make_model().unroll_clip(replace(clip, view=view))
    with pytest.raises(ValueError, match="this model reads"):
        make_model(history=HISTORY + 1).observe(clip.obs(HISTORY))
    with pytest.raises(ValueError, match="at least 32 x 16"):
        CoupledModel(spec=RasterSpec(height=24, width=24))


def test_refuses_a_latent_for_another_number_of_channels() -> None:
    with pytest.raises(ValueError, match=r"set latent\.features to model\.channels"):
        CoupledModel(channels=8, latent=GaussianLatent(8, 16))


def test_reads_the_frames_that_its_lags_name() -> None:
    model, obs = make_model(lags=(0, 2)), make_obs()
    world, action, latent = CoupledWorld(model), make_action(steps=1), torch.zeros(2, 1, 0)

    def image(changed: int) -> torch.Tensor:
        pixels = obs.image.clone()
        pixels[:, changed] = 255 - pixels[:, changed]
        return world.unroll(world.init(replace(obs, image=pixels)), action, latent).image

    kept = world.unroll(world.init(obs), action, latent).image
    is_read = [not torch.equal(image(frame), kept) for frame in range(HISTORY)]
    assert is_read == [False, True, False, True]


def test_locked_masks_are_one_function() -> None:
    """Twice the same masks give the same rollout, masks of ones the mean model, others another function."""
    model, obs = make_model(dropout=0.5), make_obs()
    latent = torch.zeros(2, 6, 0)

    def image(masks: object) -> torch.Tensor:
        world = CoupledWorld(model, masks=masks)  # type: ignore[arg-type]
        return world.unroll(world.init(obs), make_action(), latent).image

    masks, others = (
        model.sample_masks(torch.zeros(2), torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    torch.testing.assert_close(image(masks), image(masks), atol=0, rtol=0)
    torch.testing.assert_close(image([torch.ones_like(one) for one in masks]), image(None))
    assert (image(masks) - image(others)).abs().max() > 1e-3
    shared = [one[:1] for one in masks]
    torch.testing.assert_close(image(shared)[0], image(masks)[0])


@pytest.mark.parametrize("dim", [0, 3])
def test_unroll_equals_steps(dim: int) -> None:
    model, obs, action = make_model(dim), make_obs(), make_action()
    world = CoupledWorld(model, masks=model.sample_masks(torch.zeros(2), torch.Generator().manual_seed(0)))
    assert isinstance(world, WorldModel)
    hidden = world.init(obs)
    latent = world.sample_latent(hidden, 6, torch.Generator().manual_seed(0))
    assert latent.shape == (2, 6, dim)
    rollout = world.unroll(hidden, action, latent)
    for tick in range(6):
        hidden, prediction = world.step(hidden, action[:, tick], latent[:, tick])
        torch.testing.assert_close(prediction.image, rollout.image[:, tick], atol=1e-5, rtol=0)
        torch.testing.assert_close(prediction.ego, rollout.ego[:, tick], atol=1e-5, rtol=0)
        torch.testing.assert_close(prediction.view, rollout.ego[:, tick, :3], atol=1e-5, rtol=0)


def test_rows_of_the_hidden_state_can_be_picked_and_repeated() -> None:
    world, obs = CoupledWorld(make_model()), make_obs(3)
    action, latent = make_action(3, 4), torch.zeros(3, 4, 0)
    rows = torch.tensor([2, 2, 0])
    hidden, _ = world.step(world.init(obs), action[:, 0], latent[:, 0])
    whole = world.unroll(hidden, action, latent)
    picked = world.unroll(hidden[rows].to("cpu"), action[rows], latent[rows])
    torch.testing.assert_close(picked.image, whole.image[rows], atol=1e-5, rtol=0)
    torch.testing.assert_close(picked.ego, whole.ego[rows], atol=1e-5, rtol=0)


def test_the_next_image_depends_on_the_action_as_finite_differences_say() -> None:
    world, obs = CoupledWorld(make_model().double()), make_obs(1)
    obs = replace(obs, state=obs.state.double())
    hidden, latent = world.init(obs), torch.zeros(1, 3, 0).double()
    weight = torch.rand(3, SPEC.height, SPEC.width, generator=torch.Generator().manual_seed(0)).double()
    action = make_action(1, 3).double().requires_grad_()

    def score(action: torch.Tensor) -> torch.Tensor:
        rollout = world.unroll(hidden, action, latent)
        return (rollout.image * weight).sum() + rollout.ego.sum()

    assert torch.autograd.gradcheck(score, (action,), eps=1e-7, atol=1e-5)
    (gradient,) = torch.autograd.grad(
        (world.unroll(hidden, action, latent).image[:, 0] * weight).sum(), action
    )
    assert (gradient[:, 0].abs() > 1e-4).all()
    assert not gradient[:, 1:].any()


def test_given_latents_replace_the_posterior_and_carry_it() -> None:
    """The inferred latents give the unroll that the posterior's own draws gave."""
    model, clip = make_model(3), make_driven_clip()
    own = model.unroll_clip(clip, generator=torch.Generator().manual_seed(5))
    latents = model.infer_latents(clip, torch.Generator().manual_seed(5))
    assert latents.shape == (2, HORIZON, 3)
    torch.testing.assert_close(model.unroll_clip(clip, latents=latents).logits, own.logits)
    assert (own.penalty > 0).any()
    assert make_model().infer_latents(clip).shape == (2, HORIZON, 0)


def test_recomputing_activations_changes_no_gradient_and_detaching_cuts_it() -> None:
    model, clip = make_model(), make_driven_clip()
    model.train()

    def gradient(**kwargs: object) -> torch.Tensor:
        model.zero_grad()
        generator = torch.Generator().manual_seed(0)
        unroll = model.unroll_clip(clip, generator=generator, **kwargs)  # type: ignore[arg-type]
        unroll.logits[:, -1].square().sum().backward()
        return model.action_encoder.layers[0].weight.grad.clone()  # type: ignore[union-attr, operator]

    torch.testing.assert_close(gradient(checkpoint_activations=True), gradient())
    assert (gradient(detach_every=1) - gradient()).abs().max() > 1e-6


@pytest.mark.slow
def test_overfits_one_batch() -> None:
    """A car that pulls ahead and an ego that steers: both errors fall far below the copy's."""
    moving = make_clip(2, relative_speed=8.0)
    clip = shortened(replace(make_driven_clip(), image=moving.image), 5)
    model = make_model(is_born=False, features=(16, 16, 16), width=32, dropout=0.0).train()
    model.motion_mean[0], model.motion_mean[3] = 1.0, 10.0
    frames, motion = model.future_frames(clip), model.future_motion(clip)
    optimizer, errors = torch.optim.Adam(model.parameters(), lr=1e-2), []
    for _ in range(40):
        unroll = model.unroll_clip(clip)
        image_error = (unroll.logits.sigmoid() - frames).square().mean()
        motion_error = ((unroll.motion - motion) / model.motion_std).square().mean()
        errors.append((image_error.item(), motion_error.item()))
        optimizer.zero_grad()
        (10 * image_error + 0.01 * motion_error).backward()
        optimizer.step()
    assert errors[-1][0] < 0.3 * errors[0][0]
    assert errors[-1][1] < 0.3 * errors[0][1]
