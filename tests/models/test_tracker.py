"""A forward model that tells cars apart and starts with their measured velocities."""

import pytest
import torch

from tests.models.factories import HISTORY, HORIZON, SPEC, make_clip, make_obs
from worldmodel.models import (
    CarTracker,
    EgoSplit,
    ForwardModel,
    GaussianLatent,
    LearntContext,
    TrackedSeen,
    load_model,
    save_model,
)
from worldmodel.nn import LookAhead
from worldmodel.types import Clip


def make_model(latent: GaussianLatent | None = None, *, lags: int = 1) -> ForwardModel:
    """Reads the newest of four frames and the oldest."""
    torch.manual_seed(0)
    return ForwardModel(
        spec=SPEC,
        history=HISTORY,
        channels=16,
        latent=latent,
        tracker=CarTracker(16, lags=lags),
        interaction=LookAhead(16),
    )


def taught(model: ForwardModel) -> ForwardModel:
    """With parts that are zero at birth made to do something."""
    torch.nn.init.normal_(model.decoder.weight, std=0.1)
    assert isinstance(model.interaction, LookAhead)
    torch.nn.init.normal_(model.interaction.leave.weight, std=0.1)
    return model.eval()


def error(model: ForwardModel, clip: Clip) -> float:
    frames = model.unroll_clip(clip).logits.sigmoid()
    return float((frames - clip.image[:, HISTORY:, 1:2].float() / 255).abs().max().detach())


def test_the_velocity_is_the_measured_one() -> None:
    seen = make_model().encode(make_obs(relative_speed=3.0)).seen
    assert isinstance(seen, TrackedSeen)
    velocity = seen.velocity.permute(0, 2, 3, 1)[seen.label > 0]
    torch.testing.assert_close(velocity, torch.tensor([3.0, 0.0]).expand_as(velocity), atol=0.1, rtol=0)


@pytest.mark.parametrize("speed", [-3.0, 0.0, 3.0])
def test_untrained_everybody_goes_on_at_that(speed: float) -> None:
    """A model without a tracker leaves the car where it was, a whole car off."""
    clip = make_clip(relative_speed=speed)
    assert error(make_model().eval(), clip) < 0.35  # of the pixels at its edges
    if speed:
        assert error(ForwardModel(spec=SPEC, history=HISTORY, channels=16).eval(), clip) > 0.9


def test_steps_are_the_unroll() -> None:
    """The drift of a step carries the time, which the measured velocity needs."""
    model, obs = taught(make_model()), make_obs(relative_speed=2.0)
    world = EgoSplit(model)
    action = 0.5 * torch.randn(2, HORIZON, 2, generator=torch.Generator().manual_seed(0))
    latent = torch.zeros(2, HORIZON, 0)
    whole = world.unroll(world.init(obs), action, latent).image
    hidden = world.init(obs)
    for index in range(HORIZON):
        hidden, prediction = world.step(hidden, action[:, index], latent[:, index])
        torch.testing.assert_close(prediction.image, whole[:, index], atol=1e-4, rtol=0)


def test_truncated_unrolls_say_the_same() -> None:
    model, clip = taught(make_model()), make_clip(relative_speed=2.0)
    whole = model.unroll_clip(clip).logits
    torch.testing.assert_close(model.unroll_clip(clip, detach_every=1).logits, whole, atol=1e-4, rtol=0)


def test_rows_of_a_memory_take_their_cars_along() -> None:
    model = taught(make_model())
    context = LearntContext(model)
    obs = make_obs(batch=3, relative_speed=2.0)
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(context(obs[rows], 5).image, context(obs, 5).image[rows])
    memory = model.encode(obs).repeat(2)
    assert isinstance(memory.seen, TrackedSeen)
    assert memory.seen.label.shape[0] == memory.seen.velocity.shape[0] == 6


def test_going_on_does_not_surprise() -> None:
    """The posterior is shown what differs from the measured velocity: nothing at the car, here."""
    model = make_model(GaussianLatent(16, 16, dim=4)).eval()
    shown: list[torch.Tensor] = []
    model.surprise_encoder.register_forward_pre_hook(lambda _, args: shown.append(args[0]))

    def surprise() -> float:
        return max(float((one[:, 2].abs() * (one[:, 0] > 0.5)).max()) for one in shown)

    model.infer_latents(make_clip(relative_speed=3.0))
    assert surprise() < 0.35
    braking = make_clip(relative_speed=3.0)
    braking.image[:, HISTORY:] = braking.image[:, HISTORY - 1 : HISTORY]
    shown.clear()
    model.infer_latents(braking)
    assert surprise() > 0.9


def test_gradient_reaches_every_parameter() -> None:
    model = taught(make_model()).train()
    for block in model.core:
        torch.nn.init.normal_(block.second.weight, std=0.1)  # type: ignore[union-attr,arg-type]
    model.unroll_clip(make_clip(relative_speed=2.0)).logits.square().mean().backward()  # type: ignore[no-untyped-call]
    silent = [name for name, part in model.named_parameters() if part.grad is None or not part.grad.any()]
    assert silent == []


def test_a_checkpoint_holds_all_of_it(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model, clip = taught(make_model()), make_clip(relative_speed=2.0)
    save_model(model, tmp_path / "model.pt")
    loaded = load_model(tmp_path / "model.pt")
    assert isinstance(loaded, ForwardModel)
    torch.testing.assert_close(loaded.unroll_clip(clip).logits, model.unroll_clip(clip).logits)
    assert "tracker" not in ForwardModel(spec=SPEC, history=HISTORY).config  # as checkpoints have been


def test_a_history_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="with 3 older ones, the model reads 1; set its lags"):
        make_model(lags=3).encode(make_obs())
