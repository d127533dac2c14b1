"""Prediction in embedding space: the action is used, hidden patches are filled in."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.nn import FrameEncoder, encode
from worldmodel.ssl import FrameClip, InfoNCE, Objective, PredictHidden, PredictNext, Pretraining, VICReg
from worldmodel.ssl.embedding import pooled

HEIGHT, WIDTH = 16, 16


def dot(at: Tensor) -> Tensor:
    """Frames with a spot at pixels `(..., 2)`."""
    y, x = torch.arange(float(HEIGHT))[:, None], torch.arange(float(WIDTH))
    return (-((y - at[..., :1, None]) ** 2 + (x - at[..., 1:, None]) ** 2) / 4).exp()


def driven(rows: int, *, seed: int, num_frames: int = 4) -> FrameClip:
    """A spot that keeps its speed but for the action, which pushes it sideways by that many pixels."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(rows, 2, generator=generator) * 6 + 5
    velocity = torch.stack([1.5 * torch.randn(rows, generator=generator), torch.zeros(rows)], dim=1)
    action = torch.randn(rows, num_frames - 1, 2, generator=generator)
    steps = velocity[:, None].repeat(1, num_frames - 1, 1)
    steps[..., 1] += 1.5 * action[..., 0]
    place = torch.cat([start[:, None], start[:, None] + steps.cumsum(1)], dim=1)
    return FrameClip(frames=dot(place).unsqueeze(2), action=action * torch.tensor([1.0, 0.01]))


def train(
    objective: Objective, clip_of: Callable[[int], FrameClip], *, steps: int, lr: float = 3e-3
) -> Pretraining:
    torch.manual_seed(0)
    shape = tuple(clip_of(0).frames.shape[1:])
    model = Pretraining(FrameEncoder(1, 8), objective, shape)
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=3e-3)
    for step in range(steps):
        loss = model(clip_of(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(model.encoder)
    return model.eval()


def hits(model: Pretraining, clip: FrameClip) -> float:
    """How often the predicted embedding is nearest to that of the frame that came, among all of the batch."""
    objective = model.objective
    assert isinstance(objective, PredictNext) and clip.action is not None
    with torch.no_grad():
        maps = torch.stack([encode(model.encoder, clip.frames[:, t]) for t in range(3)], dim=1)
        predicted = objective.transition(maps[:, :2], clip.action[:, 1])
        now, wanted = (objective.projector(pooled(one, objective.grid)) for one in (predicted, maps[:, 2]))
        near = torch.cdist(torch.nn.functional.normalize(now), torch.nn.functional.normalize(wanted)).argmin(
            1
        )
    return float((near == torch.arange(len(near))).float().mean())


@pytest.mark.proof("F7")
@pytest.mark.slow
def test_contrast_with_actions_predicts_the_next_frame(result: Callable[[str], None]) -> None:
    objective = PredictNext(InfoNCE(0.1), dim=16, width=32, grid=(4, 8))
    model = train(objective, lambda step: driven(64, seed=step), steps=200)
    clip = driven(200, seed=9_999)
    assert clip.action is not None
    true = hits(model, clip)
    other = hits(model, FrameClip(frames=clip.frames, action=clip.action.roll(1, 0)))
    result(f"next frame found among 200: {100 * true:.0f} %, with others' actions {100 * other:.0f} %")
    assert true > 0.25 and true > 2 * other


@pytest.mark.slow
def test_inverse_dynamics_keep_the_action_in_the_embedding() -> None:
    objective = PredictNext(VICReg(), dim=16, width=32, inverse=10.0, grid=(4, 8))
    model = train(objective, lambda step: driven(64, seed=step), steps=200)
    with torch.no_grad():
        wrong = float(model(driven(200, seed=9_999))["inverse"])
    assert wrong < 0.75  # 1.0: the variance of the actions, half of which no frame shows


def moving(rows: int, *, seed: int, num_frames: int) -> FrameClip:
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(rows, 1, 2, generator=generator) * 12 + 2
    drift = torch.randn(rows, 1, 2, generator=generator) * torch.arange(num_frames)[:, None]
    return FrameClip(frames=dot(start + drift).unsqueeze(2))


def fills_in(objective: PredictHidden, num_frames: int) -> tuple[float, float]:
    """The error where the map is hidden, of the trained model and of one that says the mean everywhere."""
    model = train(objective, lambda step: moving(48, seed=step, num_frames=num_frames), steps=250)
    torch.manual_seed(1)
    clip = moving(256, seed=9_999, num_frames=num_frames)
    with torch.no_grad():
        wrong = float(model(clip)["loss"])
        maps = encode(objective.slow_encoder, clip.frames.flatten(0, 1))
        wanted = F.layer_norm(maps.movedim(1, -1), (maps.shape[1],)).movedim(-1, 1)
        mean = float((wanted - wanted.mean(0)).square().mean())
    return wrong, mean


@pytest.mark.proof("F15")
@pytest.mark.slow
def test_ijepa_fills_the_map_in(result: Callable[[str], None]) -> None:
    wrong, mean = fills_in(PredictHidden(patch=(1, 2), share=0.4, width=32), 1)
    result(f"error of hidden cells {wrong / mean:.2f} of that of their mean")
    assert wrong < 0.8 * mean and mean > 0.05


@pytest.mark.proof("F16")
@pytest.mark.slow
def test_vjepa_fills_the_map_in_through_time(result: Callable[[str], None]) -> None:
    wrong, mean = fills_in(PredictHidden(patch=(1, 2), share=0.4, width=32, through_time=True), 3)
    result(f"error of hidden cells {wrong / mean:.2f} of that of their mean")
    assert wrong < 0.8 * mean and mean > 0.05


def test_whole_patches_are_hidden() -> None:
    objective = PredictHidden(patch=(2, 3), share=0.5)
    mask = objective.draw_mask(torch.zeros(1, 1, 8, 9), 5)
    patches = mask.unflatten(2, (4, 2)).unflatten(4, (3, 3))
    assert torch.equal(patches.amax((3, 5)), patches.amin((3, 5)))
    assert torch.allclose(mask.mean((1, 2, 3)), torch.tensor(0.5))


def test_a_clip_without_actions_is_refused() -> None:
    model = Pretraining(FrameEncoder(1, 8), PredictNext(InfoNCE()), (3, 1, 16, 16))
    with pytest.raises(ValueError, match="no actions"):
        model(FrameClip(frames=torch.zeros(2, 3, 1, 16, 16)))
    with pytest.raises(ValueError, match="clips of 2 frames, expected 3"):
        Pretraining(FrameEncoder(1, 8), PredictNext(InfoNCE()), (2, 1, 16, 16))
