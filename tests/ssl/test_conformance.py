"""The contract of an objective, for every system that has a configuration."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from worldmodel.app.compose import compose
from worldmodel.models.checkpoint import build, load_model, plain, save_model
from worldmodel.nn import FrameEncoder
from worldmodel.ssl import FrameClip, Pretraining

SHAPE = (4, 3, 30, 15)  # no multiples of the stride, as those of traffic
CONFIGS = sorted(path.stem for path in Path(str(files("configs"))).glob("ssl/*.yaml"))
GIVE_FRAMES = [
    "autoencoder",
    "contractive",
    "conv_lista",
    "conv_sparse_autoencoder",
    "conv_sparse_coding",
    "deconvolutional",
    "denoising",
    "drsae",
    "future_frames",
    "glo",
    "group_sparsity",
    "inpainting",
    "inpainting_adversarial",
    "kmeans",
    "linear_path",
    "lista",
    "local_fields",
    "mae",
    "multilayer",
    "naive_masking",
    "pca",
    "psd",
    "saturating",
    "sharp_frames",
    "slow",
    "slow_sparse",
    "sparse_autoencoder",
    "sparse_coding",
    "straight",
    "super_resolution",
    "temporal_contrast_decoder",
    "topographic",
    "topographic_ica",
    "variational",
]

every = pytest.mark.parametrize("name", CONFIGS)


@cache
def described(name: str) -> Any:
    """What `worldmodel pretrain ssl=NAME` is told of its objective."""
    config = compose("pretrain", [f"ssl={name}", "encoder.features=8"])
    return OmegaConf.to_container(config.ssl, resolve=True)


def make(name: str) -> Pretraining:
    """The objective as `worldmodel pretrain ssl=NAME` builds it, on a small encoder."""
    torch.manual_seed(0)
    objective = build(described(name))
    return Pretraining(FrameEncoder(3, 8), objective, SHAPE)


def clips(seed: int, batch: int = 6) -> FrameClip:
    """Blobs that move: frames, states, actions, flow, and a few labels."""
    generator = torch.Generator().manual_seed(seed)
    num_frames, channels, height, width = SHAPE
    start = torch.rand(batch, channels, 2, generator=generator) * torch.tensor([24.0, 10.0]) + 4
    velocity = torch.randn(batch, channels, 2, generator=generator)
    time = torch.arange(num_frames).float()
    centre = start[:, None] + velocity[:, None] * time[None, :, None, None]  # (B, T, C, 2)
    rows, columns = torch.arange(height).float(), torch.arange(width).float()
    far = (rows[:, None] - centre[..., :1, None]) ** 2 + (columns - centre[..., 1:, None]) ** 2
    state = torch.randn(batch, num_frames, 4, generator=generator)
    return FrameClip(
        frames=(-far / 8).exp(),
        state=state.cumsum(1),
        action=torch.randn(batch, num_frames - 1, 2, generator=generator),
        flow=velocity.mean(1)[:, None, :, None, None].expand(-1, num_frames, -1, height, width).clone(),
        label=torch.tensor([0, 1, 2, -1, -1, -1])[:batch],
    )


def train(model: Pretraining, steps: range, *, lr: float = 1e-3) -> list[float]:
    """Steps of the optimiser, each with its own clips and seed, as the trainer takes them."""
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=lr)
    losses = []
    for step in steps:
        torch.manual_seed(step)
        if step == 0:
            model.objective.refit(model.encoder, [clips(100), clips(101)])
        loss = model(clips(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.objective.after_step(model.encoder)
        losses.append(loss.item())
    return losses


def outcome(model: Pretraining, seed: int = 0) -> dict[str, Any]:
    torch.manual_seed(seed)
    with torch.no_grad():
        return {name: value.item() for name, value in model(clips(50)).items()}


@every
def test_two_steps_have_finite_losses_and_gradients_reach_the_encoder(name: str) -> None:
    model = make(name)
    before = {key: value.clone() for key, value in model.encoder.state_dict().items()}
    assert all(torch.isfinite(torch.tensor(train(model, range(2), lr=0.01))))
    model(clips(7))["loss"].backward()
    gradient = [one.grad for one in model.encoder.parameters() if one.grad is not None]
    assert gradient and any(bool((one != 0).any()) for one in gradient)
    assert any(not torch.equal(before[key], value) for key, value in model.encoder.state_dict().items())


@every
def test_what_is_saved_and_loaded_is_the_same(name: str, tmp_path: Path) -> None:
    model = make(name)
    train(model, range(2))
    save_model(model.eval(), tmp_path / "ssl.pt")
    again = load_model(tmp_path / "ssl.pt")
    assert isinstance(again, Pretraining) and plain(again.config) == plain(model.config)
    assert outcome(again) == outcome(model)


@pytest.mark.slow
@every
def test_a_training_goes_on_from_its_state_as_if_it_had_not_stopped(name: str) -> None:
    whole = make(name)
    losses = train(whole, range(4))
    half = make(name)
    train(half, range(2))
    rest = make(name)
    torch.manual_seed(99)
    rest.load_state_dict({key: value.clone() for key, value in half.state_dict().items()})
    assert train(rest, range(2, 4)) == losses[2:]
    for one, other in zip(whole.state_dict().values(), rest.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@every
def test_what_is_made_of_frames_can_be_looked_at(name: str) -> None:
    """Frames of the same scenes under each name; they do not change what is learnt."""
    model = make(name)
    train(model, range(1))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    frames = model.objective.pictures(model.encoder, clips(3))
    for one in frames.values():
        assert one.shape[1:] == SHAPE[1:] and len(one) % 6 == 0 and not one.requires_grad
        assert bool(one.isfinite().all())
    assert len({len(one) for one in frames.values()}) <= 1
    assert (len(frames) > 1) == (name in GIVE_FRAMES)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@every
def test_a_clip_of_another_size_is_refused(name: str) -> None:
    model = make(name)
    wrong = FrameClip(frames=torch.zeros(2, 4, 3, 16, 16))
    with pytest.raises(ValueError, match=r"clip of \(4, 3, 16, 16\).*expected \(4, 3, 30, 15\)"):
        model(wrong)
