"""A JEPA as world model: the protocol, what it has learnt of actions, and planning in it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.factories import SPEC, make_clip, make_obs
from worldmodel.models import CheckpointError, EmbeddingWorld, load_embedding_world, save_model
from worldmodel.nn import FrameEncoder, MapDecoder, Transition
from worldmodel.protocols import WorldModel
from worldmodel.scene import RasterSpec
from worldmodel.ssl import FrameClip, PredictNext, Pretraining, ReadOut, Reconstruct, Sum, VICReg
from worldmodel.types import Obs

SPACING, HISTORY = 3, 4


def make_world(seed: int = 0, *, spacing: int = SPACING) -> EmbeddingWorld:
    torch.manual_seed(seed)
    transition = Transition(8, width=16)
    torch.nn.init.normal_(transition.leave.weight, std=0.1)
    world = EmbeddingWorld(
        FrameEncoder(3, 8), transition, MapDecoder(8, 1, (4, 2)), spacing=spacing, spec=SPEC
    )
    return world.eval().requires_grad_(False)


@pytest.mark.parametrize("spacing", [1, 2, 3, 5])
def test_it_is_a_world_model_whose_unroll_equals_its_steps(spacing: int) -> None:
    world, obs = make_world(spacing=spacing), make_clip(relative_speed=2.0).obs(6)
    assert isinstance(world, WorldModel)
    action = torch.randn(2, 8, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.01])
    hidden = world.init(obs)
    latent = world.sample_latent(hidden, 8)
    rollout = world.unroll(hidden, action, latent)
    for t in range(8):
        hidden, prediction = world.step(hidden, action[:, t], latent[:, t])
        torch.testing.assert_close(prediction.image, rollout.image[:, t], atol=1e-5, rtol=0)
        torch.testing.assert_close(prediction.ego, rollout.ego[:, t], atol=1e-5, rtol=0)
        torch.testing.assert_close(prediction.view, rollout.view[:, t], atol=1e-5, rtol=0)


def test_rasters_change_in_the_middle_of_a_step() -> None:
    world, obs = make_world(), make_obs()
    image = world.unroll(world.init(obs), torch.ones(2, 7, 2), torch.zeros(2, 7, 0)).image
    same = [bool(torch.equal(image[:, t], image[:, t + 1])) for t in range(6)]
    assert same == [False, True, True, False, True, True]  # seen at tick 1; predicted from 2, 5
    seen = obs.image[:, -1, 1:2].float() / 255
    assert torch.equal(image[:, 0], seen)


def test_gradients_reach_the_actions_through_the_embedding() -> None:
    world, obs = make_world(), make_obs()
    action = torch.zeros(2, 6, 2, requires_grad=True)
    image = world.unroll(world.init(obs), action, torch.zeros(2, 6, 0)).image
    (gradient,) = torch.autograd.grad(image.square().sum(), action)
    assert (gradient[:, :2].abs() > 0).all() and bool(torch.isfinite(gradient).all())


# -- a toy that can be planned in: a spot that the action pushes sideways

TOY = RasterSpec(height=16, width=16)


def spots(place: Tensor) -> Tensor:
    y, x = torch.arange(16.0)[:, None], torch.arange(16.0)
    return (-((y - place[..., :1, None]) ** 2 + (x - place[..., 1:, None]) ** 2) / 4).exp()


def pushed(rows: int, *, seed: int, num_frames: int = 4) -> tuple[FrameClip, Tensor]:
    """Frames of a spot that an action moves left or right, and where it was."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand(rows, 1, 2, generator=generator) * 8 + 4
    action = torch.rand(rows, num_frames - 1, 2, generator=generator) * 2 - 1
    moved = torch.stack([torch.zeros(rows, num_frames - 1), 2 * action[..., 0]], dim=-1).cumsum(1)
    place = torch.cat([place, (place + moved).clamp(1, 14)], dim=1)
    frames = torch.zeros(rows, num_frames, 3, 16, 16)
    frames[:, :, 1] = spots(place)
    return FrameClip(frames=frames, action=action * torch.tensor([1.0, 0.01])), place


def learn(steps: int) -> Pretraining:
    torch.manual_seed(0)
    predict = PredictNext(VICReg(), dim=32, width=32, inverse=1.0, exact=10.0, grid=(4, 8))
    terms = {"predict": predict, "read_out": ReadOut(1)}
    model = Pretraining(FrameEncoder(3, 16), Sum(terms), (4, 3, 16, 16))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(steps):
        loss = model(pushed(64, seed=step)[0])["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def learnt() -> Pretraining:
    return learn(300)


def world_of(model: Pretraining) -> EmbeddingWorld:
    terms = model.objective.terms  # type: ignore[union-attr]
    world = EmbeddingWorld(
        model.encoder, terms["predict"].transition, terms["read_out"].decoder, spacing=1, spec=TOY
    )
    return world.eval().requires_grad_(False)


def first_two(clip: FrameClip) -> Obs:
    obs = make_obs(len(clip.frames))
    return replace(obs, image=(clip.frames[:, :2] * 255).round().to(torch.uint8), state=obs.state[:, :2])


def column(image: Tensor) -> Tensor:
    """Where the mass of `(B, T, 1, H, W)` rasters is, across."""
    mass = image.sum((2, 3)).clamp_min(1e-6)
    return (mass * torch.arange(16.0)).sum(-1) / mass.sum(-1)


@pytest.mark.slow
@pytest.mark.proof("J1")
def test_a_jepa_is_planned_in(learnt: Pretraining, result: Callable[[str], None]) -> None:
    """Gradient descent on three actions through the embedding brings the spot to column 7."""
    world = world_of(learnt)
    clip, place = pushed(64, seed=9_999, num_frames=3)
    hidden = world.init(first_two(clip))
    assert clip.action is not None
    with torch.no_grad():  # what it predicts of the recorded actions
        after = world.unroll(hidden, clip.action[:, 1:2], torch.zeros(64, 1, 0)).image
    actual = clip.frames[:, 2, 1:2]
    error, copied = F.mse_loss(after[:, 0], actual), F.mse_loss(clip.frames[:, 1, 1:2], actual)
    wanted, free = 7.0, torch.zeros(64, 3, 1, requires_grad=True)
    optimizer = torch.optim.Adam([free], lr=0.1)
    for _ in range(40):
        action = torch.cat([free.tanh(), torch.zeros_like(free)], dim=-1)
        image = world.unroll(hidden, action, torch.zeros(64, 3, 0)).image
        loss = (column(image)[:, -1] - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    now = place[:, 1, 1]
    reached = (now + 2 * free.detach().tanh()[..., 0].sum(1)).clamp(1, 14)  # what truly happens
    before, missed = (now - wanted).abs().mean(), (reached - wanted).abs().mean()
    result(
        f"next raster: error {float(error / copied):.2f} of copying's; planned to a place: "
        f"off by {float(before):.1f} px before, {float(missed):.1f} px after"
    )
    assert error < 0.6 * copied and missed < 0.6 * before


def test_a_checkpoint_becomes_a_world(tmp_path: Path) -> None:
    model = learn(1)
    save_model(model, tmp_path / "ssl.pt", extra={"spacing": 3})
    world = load_embedding_world(tmp_path / "ssl.pt")
    assert world.spacing == 3 and not any(one.requires_grad for one in world.parameters())
    save_model(
        Pretraining(FrameEncoder(3, 8), Reconstruct(), (1, 3, 16, 16)), tmp_path / "other.pt", extra={}
    )
    with pytest.raises(CheckpointError, match="no world of embeddings; expected a checkpoint of"):
        load_embedding_world(tmp_path / "other.pt")
