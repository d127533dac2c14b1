"""EgoSplit and FixedContext: one protocol, `step` equals `unroll`, gradients where they are promised."""

import pytest
import torch

from tests.models.factories import HISTORY, SPEC, make_clip, make_obs
from worldmodel.models import (
    Context,
    CopyContext,
    EgoSplit,
    FixedContext,
    ForwardModel,
    GaussianLatent,
    LearntContext,
    StaticContext,
    TrueContext,
    TrueLatentContext,
)
from worldmodel.models.context import mean_and_variance
from worldmodel.protocols import WorldModel
from worldmodel.types import Obs, Rollout


def make_model(dim: int = 0, *, dropout: float = 0.1) -> ForwardModel:
    torch.manual_seed(1)
    latent = GaussianLatent(16, 16, dim=dim) if dim else None
    model = ForwardModel(spec=SPEC, history=HISTORY, channels=16, latent=latent, dropout=dropout)
    for part in (model.decoder, *(block.second for block in model.core)):
        torch.nn.init.normal_(part.weight, std=0.05)
    return model.eval().requires_grad_(False)


def stepwise(world: WorldModel, obs: Obs, action: torch.Tensor, latent: torch.Tensor) -> list:
    hidden, predictions = world.init(obs), []
    for t in range(action.shape[1]):
        hidden, prediction = world.step(hidden, action[:, t], latent[:, t])
        predictions.append(prediction)
    return predictions


WORLDS = {
    "ego-split": lambda: EgoSplit(make_model(3)),
    "learnt": lambda: FixedContext(LearntContext(make_model(3), num_latents=2, num_masks=3), horizon=12),
    "copy": lambda: FixedContext(CopyContext(SPEC), horizon=12),
    "static": lambda: FixedContext(StaticContext(SPEC), horizon=12),
}


@pytest.mark.parametrize("name", WORLDS)
def test_unroll_equals_steps(name: str) -> None:
    world = WORLDS[name]()
    assert isinstance(world, WorldModel)
    obs = make_obs()
    action = torch.randn(2, 12, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.01])
    latent = world.sample_latent(world.init(obs), 12, torch.Generator().manual_seed(0))
    rollout: Rollout = world.unroll(world.init(obs), action, latent)
    for t, prediction in enumerate(stepwise(world, obs, action, latent)):
        torch.testing.assert_close(prediction.image, rollout.image[:, t], atol=1e-4, rtol=0)
        torch.testing.assert_close(prediction.ego, rollout.ego[:, t], atol=1e-4, rtol=0)
        torch.testing.assert_close(prediction.view, rollout.view[:, t], atol=1e-4, rtol=0)


def test_next_raster_depends_on_the_action() -> None:
    """`d raster[1] / d action[0]` is not zero for either component: the view moves with the ego at once."""
    world, obs = EgoSplit(make_model()), make_obs()
    action = torch.zeros(2, 1, 2, requires_grad=True)
    image = world.unroll(world.init(obs), action, torch.zeros(2, 1, 0)).image[:, 0]
    weight = torch.linspace(0, 1, image.numel()).reshape(image.shape)
    (gradient,) = torch.autograd.grad((image * weight).sum(), action)
    assert (gradient.abs() > 1e-6).all()


def test_later_rasters_depend_on_early_actions_through_the_network_too() -> None:
    """With the view held still, what the others do still depends on the ego's motion."""
    model = make_model()
    memory = model.encode(make_obs())
    deviation = torch.zeros(2, 4, requires_grad=True)
    features = model.advance(memory.features, model.embed_motion(deviation, memory.speed), torch.zeros(2, 0))
    logits, _ = model.decode(features.unsqueeze(1), memory.seen)
    (gradient,) = torch.autograd.grad(logits.sum(), deviation)
    assert (gradient.abs() > 0).all()


def test_braking_moves_the_world_ahead() -> None:
    """Copied others keep 10 m/s; the ego that brakes sees them move ahead by what it lost."""
    model = ForwardModel(spec=SPEC, history=HISTORY, channels=16).eval()
    world, obs = EgoSplit(model), make_obs()
    action = torch.zeros(2, 10, 2)
    action[..., 0] = -4.0
    rollout = world.unroll(world.init(obs), action, torch.zeros(2, 10, 0))
    rows = torch.arange(SPEC.height).float().reshape(1, -1, 1)

    def mean_row(image: torch.Tensor) -> torch.Tensor:
        occupied = (image[:, 0] - 0.02).clamp_min(0)
        return (occupied * rows).sum((-2, -1)) / occupied.sum((-2, -1))

    lost = 10.0 * 1.0 - rollout.ego[:, -1, 0]
    moved = (mean_row(obs.image[:, -1, 1:2] / 255) - mean_row(rollout.image[:, -1])) * SPEC.resolution
    torch.testing.assert_close(moved, lost, atol=0.25, rtol=0)


def test_fixed_context_passes_gradient_through_the_pose_only() -> None:
    world, obs = FixedContext(LearntContext(make_model()), horizon=5), make_obs()
    action = torch.zeros(2, 5, 2, requires_grad=True)
    rollout = world.unroll(world.init(obs), action, torch.zeros(2, 5, 0))
    assert not rollout.image.requires_grad
    (gradient,) = torch.autograd.grad(rollout.ego.sum(), action)
    assert gradient.abs().sum() > 0


def test_learnt_context_reports_disagreement_of_masks() -> None:
    context = LearntContext(make_model(), num_masks=4)(make_obs(), 10)
    assert context.variance is not None
    assert float(context.variance.max()) > 0
    assert LearntContext(make_model())(make_obs(), 10).variance is None


@pytest.mark.parametrize("num_latents", [1, 3])
def test_without_dropout_members_agree_about_every_future(num_latents: int) -> None:
    model = make_model(4, dropout=0.0)
    source = LearntContext(model, num_latents=num_latents, num_masks=3)
    context = source(make_obs(), 10)
    assert context.variance is not None
    assert float(context.variance.max()) == 0.0  # what differs between futures is no doubt of the model's
    other = LearntContext(model, num_latents=num_latents, num_masks=3, seed=1)(make_obs(), 10)
    assert float((context.image - other.image).abs().max()) > 1e-3  # yet there is more than one future


def test_masks_futures_and_scenes_go_through_the_network_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = make_model(4), []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda steps, *rest: rows.append(len(steps)) or decode(steps, *rest))
    LearntContext(model, num_latents=3, num_masks=4)(make_obs(2), 10)
    assert rows == [2 * 3 * 4]


def test_a_second_member_leaves_the_first_as_it_was() -> None:
    model, obs = make_model(), make_obs(2)
    first = LearntContext(model, num_masks=1)(obs, 5).image
    both = LearntContext(model, num_masks=2)(obs, 5)
    torch.testing.assert_close(both.variance, 2 * (both.image - first).square())


def test_mean_and_variance_of_members() -> None:
    members = [torch.randn(2, 3, 1, 4, 5, dtype=torch.float64) for _ in range(3)]
    mean, variance = mean_and_variance(members)
    torch.testing.assert_close(mean, torch.stack(members).mean(0))
    torch.testing.assert_close(variance, torch.stack(members).var(0))
    alike = [torch.full((1, 1, 1, 4, 5), 0.1)] * 3
    assert [one.unique().tolist() for one in mean_and_variance(alike)] == [[torch.tensor(0.1).item()], [0.0]]


def test_learnt_context_is_the_same_at_every_call_and_for_every_batch() -> None:
    source = LearntContext(make_model(3), num_latents=1, num_masks=2)
    obs = make_obs(2)
    torch.testing.assert_close(source(obs, 10).image, source(obs, 10).image)


def test_static_world_slides_back_by_the_egos_travel() -> None:
    obs = make_obs(speed=SPEC.resolution * 10 * 2)  # two pixels a frame
    context = StaticContext(SPEC)(obs, 3)
    newest = obs.image[:, -1, 1:2].float() / 255
    torch.testing.assert_close(context.image[:, 2, :, 6:], newest[:, :, :-6], atol=1e-4, rtol=0)


def test_copy_and_static_agree_for_a_standing_ego() -> None:
    obs = make_obs(speed=0.0)
    torch.testing.assert_close(
        CopyContext(SPEC)(obs, 4).image, StaticContext(SPEC)(obs, 4).image, atol=1e-5, rtol=0
    )


def test_too_long_a_rollout_is_refused() -> None:
    world, obs = FixedContext(CopyContext(SPEC), horizon=3), make_obs()
    with pytest.raises(ValueError, match="4 actions exceed the context's horizon of 3"):
        world.unroll(world.init(obs), torch.zeros(2, 4, 2), torch.zeros(2, 4, 0))


def test_true_context_draws_the_recorded_future() -> None:
    """The recorded future equals the rasters of a clip drawn from the same window."""
    from worldmodel.data.synthetic import make_recording
    from worldmodel.scene.raster import Renderer

    recording = make_recording(seed=0, num_vehicles=30, num_frames=60)
    vehicle, frame = 2, 20
    state = torch.from_numpy(recording.tracks.state[vehicle, frame - HISTORY + 1 : frame + 1])
    obs = make_obs(1)
    obs = Obs(
        obs.image,
        state.unsqueeze(0).float(),
        obs.size,
        obs.road,
        torch.tensor([[0, vehicle, frame]]),
        obs.scene,
    )
    context = TrueContext([recording])(obs, 5)
    from worldmodel.scene import comoving_views

    view = comoving_views(state[-1].float().double(), 5, 0.1).numpy()
    expected = Renderer(recording).render(
        view, torch.arange(frame + 1, frame + 6).numpy(), torch.full((5,), vehicle).numpy()
    )
    assert (context.image[0, :, 0] * 255).round().to(torch.uint8).numpy().tolist() == expected[:, 1].tolist()
    assert expected[:, 1].max() > 0


def test_clip_gives_the_history_as_observation() -> None:
    clip = make_clip()
    assert clip.obs(HISTORY).image.shape[1] == HISTORY


def true_latents(model: ForwardModel, future: torch.Tensor, **options) -> TrueLatentContext:
    return TrueLatentContext(model, lambda obs, num_steps: Context(future), **options)


def test_true_latents_are_those_of_the_posterior() -> None:
    """As the posterior and the decoder of the training have it, for an ego that keeps its speed."""
    model, clip = make_model(3), make_clip(relative_speed=3.0)
    future = clip.image[:, HISTORY:, 1:2].float() / 255
    found = true_latents(model, future, seed=5)(clip.obs(HISTORY), future.shape[1]).image
    latents = model.infer_latents(clip, torch.Generator().manual_seed(5))
    expected = model.unroll_clip(clip, latents=latents).logits.sigmoid()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_true_latents_depend_on_the_future_and_on_nothing_else() -> None:
    model, obs = make_model(3), make_obs()
    futures = [make_clip(relative_speed=one).image[:, HISTORY:, 1:2].float() / 255 for one in (-4.0, 4.0)]
    slow, fast, again = (true_latents(model, futures[one], num_latents=3)(obs, 10).image for one in (0, 1, 0))
    torch.testing.assert_close(slow, again)
    assert not torch.allclose(slow, fast)


def test_a_deterministic_model_has_no_true_latents() -> None:
    model, obs = make_model(), make_obs()
    future = torch.zeros(2, 10, 1, SPEC.height, SPEC.width)
    found = true_latents(model, future)(obs, 10).image
    torch.testing.assert_close(found, LearntContext(model)(obs, 10).image, atol=1e-5, rtol=0)
