"""Counts that add up, common fate, and two senses that teach each other."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from worldmodel.nn import Backbone, FrameEncoder
from worldmodel.ssl import CommonFate, Counting, Disagreement, FrameClip, Objective, Pretraining


def train(
    objective: Objective,
    encoder: nn.Module,
    clip_of: Callable[[int], FrameClip],
    *,
    steps: int,
    lr: float = 3e-3,
) -> Pretraining:
    torch.manual_seed(0)
    model = Pretraining(encoder, objective, tuple(clip_of(0).frames.shape[1:]))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(steps):
        torch.manual_seed(step)
        loss = model(clip_of(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def cars(rows: int, *, seed: int) -> tuple[FrameClip, Tensor]:
    """White cars on black, none or one in each quarter, of sides and at places that halve; how many."""
    generator = torch.Generator().manual_seed(seed)
    size = 2 * torch.randint(1, 3, (rows, 4, 2), generator=generator)
    room = (8 - size) // 2 + 1
    at = 2 * (torch.rand(rows, 4, 2, generator=generator) * room).long()
    pixel = torch.arange(8)
    inside = (pixel >= at[..., None]) & (pixel < (at + size)[..., None])  # (B, 4, 2, 8)
    there = torch.rand(rows, 4, generator=generator) < 0.5
    quarters = inside[:, :, 0, :, None] & inside[:, :, 1, None] & there[..., None, None]
    frames = quarters.unflatten(1, (2, 2)).permute(0, 1, 3, 2, 4).flatten(3, 4).flatten(1, 2)
    return FrameClip(frames=frames[:, None, None].float()), there.sum(1)


def counted(contrast: float) -> tuple[Tensor, Tensor, Tensor]:
    """Counts in the whole and in the quarters of new frames, and how many cars there are."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))
    encoder, objective = Backbone(network, features=16, stride=(1, 1)), Counting(4, contrast=contrast)
    train(objective, encoder, lambda step: cars(64, seed=step)[0], steps=250, lr=5e-3)
    clip, number = cars(500, seed=9_999)
    frame = clip.frames[:, 0]
    quarters = [part for half in frame.chunk(2, dim=-2) for part in half.chunk(2, dim=-1)]
    with torch.no_grad():
        whole = objective.count(encoder, nn.functional.avg_pool2d(frame, 2))
        parts = sum(objective.count(encoder, one) for one in quarters)
    return whole, parts, number


@pytest.mark.proof("G10")
@pytest.mark.slow
def test_counts_of_quarters_add_up_and_follow_the_cars(result: Callable[[str], None]) -> None:
    whole, parts, number = counted(contrast=1.0)
    unexplained = float((whole - parts).square().sum() / (parts - parts.mean(0)).square().sum())
    alike = float(torch.corrcoef(torch.stack([parts.sum(1), number.float()]))[0, 1])
    without, _, _ = counted(contrast=0.0)
    assert unexplained < 0.1 and alike > 0.9
    assert float(without.mean()) < 0.02 * float(whole.mean())
    result(
        f"counts of the quarters explain {1 - unexplained:.0%} of the whole's, and follow the number of cars "
        f"by {alike:.2f} (correlation); without contrast {without.mean() / whole.mean():.3f} of them are left"
    )


def squares(rows: int, *, seed: int) -> tuple[FrameClip, Tensor]:
    """A textured square that moves over a textured ground that moves otherwise, its flow and its mask."""
    generator = torch.Generator().manual_seed(seed)
    stripes = torch.arange(32) % 4 < 2
    ground = stripes[None, :, None].float().expand(rows, 32, 32) * 0.8
    object_ = stripes[None, None, :].float().expand(rows, 32, 32) * 0.8
    ground, object_ = (one + 0.2 * torch.rand(rows, 32, 32, generator=generator) for one in (ground, object_))
    at = torch.randint(4, 16, (rows, 2), generator=generator)
    y, x = torch.arange(32)[:, None], torch.arange(32)
    mask = (y >= at[:, :1, None]) & (y < at[:, :1, None] + 12)
    mask = mask & (x >= at[:, 1:, None]) & (x < at[:, 1:, None] + 12)
    velocity = torch.randn(rows, 2, 2, generator=generator) * 2
    flow = torch.where(mask[:, None], velocity[:, 0, :, None, None], velocity[:, 1, :, None, None])
    frames = torch.where(mask, object_, ground)[:, None, None]
    return FrameClip(frames=frames, flow=flow[:, None]), mask


def separation(model: Pretraining) -> float:
    """Overlap of the square with the half of the cells that k-means with two centres makes of embeddings."""
    clip, mask = squares(32, seed=9_999)
    objective = model.objective
    assert isinstance(objective, CommonFate)
    with torch.no_grad():
        code = objective.cells(model.encoder, clip.frames[:, 0])
    wanted = nn.functional.adaptive_avg_pool2d(mask[:, None].float(), code.shape[-2:])[:, 0] > 0.5
    scores = []
    for one, true in zip(code.flatten(2).transpose(1, 2), wanted.flatten(1), strict=True):
        first = one[0]
        centres = torch.stack([first, one[(one @ first).argmin()]])
        for _ in range(10):
            label = torch.cdist(one, centres).argmin(1)
            centres = torch.stack(
                [one[label == k].mean(0) if (label == k).any() else centres[k] for k in (0, 1)]
            )
        overlaps = [((label == k) & true).sum() / ((label == k) | true).sum() for k in (0, 1)]
        scores.append(float(max(overlaps)))
    return sum(scores) / len(scores)


@pytest.mark.proof("G12")
@pytest.mark.slow
def test_what_moves_together_is_seen_as_one(result: Callable[[str], None]) -> None:
    def make(steps: int) -> Pretraining:
        objective = CommonFate(dim=8)
        return train(objective, FrameEncoder(1, 16), lambda step: squares(16, seed=step)[0], steps=steps)

    untrained, trained = separation(make(0)), separation(make(150))
    result(f"the object found without motion, IoU {trained:.2f}, untrained {untrained:.2f}")
    assert trained > 0.7 and trained > untrained + 0.15


CLASSES, NUM = 3, 8


def senses(rows: int, *, seed: int) -> tuple[FrameClip, Tensor]:
    """Three classes, each with its own look and its own feel, both noisy and otherwise unrelated."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(CLASSES, (rows,), generator=generator)
    looks = torch.eye(CLASSES)[label] @ torch.tensor(
        [[1.0, 0.0, 0.2, 0.0], [0.0, 1.0, 0.0, 0.2], [0.5, 0.5, 1.0, 1.0]]
    )
    frames = (looks + 0.2 * torch.randn(rows, 4, generator=generator))[:, None, :, None, None]
    feel = torch.tensor([[-1.0, 0.0], [1.0, -1.0], [1.0, 1.0]])[label] + 0.35 * torch.randn(
        rows, 2, generator=generator
    )
    state = torch.zeros(rows, 2, 4)
    state[:, :, 3] = 10 * (feel[:, :1] + 1)
    action = torch.stack([feel[:, 1], torch.zeros(rows)], dim=1)[:, None]
    return FrameClip(frames=frames.expand(-1, 2, -1, -1, -1), state=state, action=action), label


class Linear(nn.Module):
    stride = (1, 1)
    features = 8

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Conv2d(4, 8, 1)

    def forward(self, frame: Tensor) -> Tensor:
        return self.map(frame)


@pytest.mark.slow
@pytest.mark.proof("F8")
def test_two_senses_teach_each_other_the_classes(result: Callable[[str], None]) -> None:
    objective = Disagreement(NUM, width=16)
    model = train(objective, Linear(), lambda step: senses(128, seed=step)[0], steps=200, lr=0.01)
    clip, label = senses(1000, seed=9_999)
    rates = []
    with torch.no_grad():
        for logits in objective.classify(model.encoder, clip):
            table = torch.zeros(NUM, CLASSES)
            table.index_put_((logits.argmax(1), label), torch.ones(len(label)), accumulate=True)
            rates.append(float(table.amax(1).sum() / len(label)))  # each found class by its majority
    sight, feel = (100 * one for one in rates)
    result(f"three classes found without labels: {sight:.0f} % by sight, {feel:.0f} % by feel")
    assert min(rates) > 0.85


def test_what_an_objective_lacks_is_named() -> None:
    frames = torch.zeros(2, 2, 1, 16, 8)
    for objective, missing in ((CommonFate(), "flow"), (Disagreement(), "state")):
        model = Pretraining(FrameEncoder(1, 8), objective, (2, 1, 16, 8))
        with pytest.raises(ValueError, match=missing):
            model(FrameClip(frames=frames))
