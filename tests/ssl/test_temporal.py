"""Features in time: closed forms, and what the objectives learn."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from worldmodel.nn import ImportedFunction
from worldmodel.ssl import FrameClip, Pretraining, Temporal, embed
from worldmodel.ssl.temporal import curvature, nonlinearity, slow_features, slowness, slowness_l1

PLACE = "worldmodel.ssl.temporal"


def correlation(one: Tensor, other: Tensor) -> float:
    return abs(float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]))


def circle(num: int, *, radius: float = 2.0) -> Tensor:
    angle = torch.linspace(0, 2 * torch.pi, num + 1, dtype=torch.float64)[:-1]
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1).unsqueeze(0)


def test_paths_by_hand() -> None:
    line = torch.arange(5.0)[None, :, None] * torch.tensor([3.0, 4.0])
    assert float(slowness(line)) == pytest.approx(12.5) and float(slowness_l1(line)) == pytest.approx(3.5)
    assert float(nonlinearity(line)) == pytest.approx(0.0) and float(curvature(line)) == pytest.approx(0.0)
    bend = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]])
    assert float(curvature(bend)) == pytest.approx(1.0) and float(nonlinearity(bend)) == pytest.approx(1.0)


@pytest.mark.proof("H1")
def test_slow_features_of_wiskotts_signal(result: Callable[[str], None]) -> None:
    """`x1 = sin t + cos^2(11 t), x2 = cos(11 t)`: the slow feature is `sin t = x1 - x2^2` (section 4.1)."""
    t = torch.linspace(0, 2 * torch.pi, 4000, dtype=torch.float64)
    x1, x2 = t.sin() + (11 * t).cos() ** 2, (11 * t).cos()
    expanded = torch.stack([x1, x2, x1 * x1, x1 * x2, x2 * x2], dim=1)
    features = slow_features(expanded, 2)
    slow = (expanded - expanded.mean(0)) @ features
    result(f"closed form: correlation with the slow source {correlation(slow[:, 0], t.sin()):.4f}")
    assert correlation(slow[:, 0], t.sin()) > 0.999
    assert slow.diff(dim=0).square().mean(0).diff() > 0
    assert torch.allclose(slow.T @ slow / len(slow), torch.eye(2, dtype=torch.float64), atol=1e-9)


class Linear(nn.Module):
    """A linear encoder of vectors, as frames of one pixel."""

    stride = (1, 1)

    def __init__(self, dim: int, features: int) -> None:
        super().__init__()
        self.features = features
        self.map = nn.Conv2d(dim, features, 1, bias=False)

    def forward(self, frame: Tensor) -> Tensor:
        return self.map(frame)


MIXING = torch.randn(4, 6, generator=torch.Generator().manual_seed(3))


def sources(*, rows: int, seed: int, reach: float = 1.0, num_frames: int = 6) -> Tensor:
    """Four sources: a slow one, one that moves on a line, two that flicker; mixed by `MIXING`."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(num_frames).float()
    phase = 6.28 * torch.rand(rows, 1, generator=generator)
    slow = 1.4 * (0.15 * time + phase).sin()
    begin, speed = torch.randn(2, rows, 1, generator=generator)
    line = reach * (begin + 0.6 * time * speed)
    flicker = torch.randn(rows, num_frames, 2, generator=generator)
    return torch.cat([slow[..., None], line[..., None], flicker], dim=-1)


def learn(path: str, *, steps: int, reach: float = 1.0) -> Tensor:
    """The features, over fresh sources, of an encoder trained for such paths."""
    torch.manual_seed(0)
    function = ImportedFunction(f"{PLACE}.{path}")
    objective = Temporal(function, dim=1, width=8, variance=5.0, covariance=0.0, grid=(1, 1))
    model = Pretraining(Linear(6, 1), objective, (6, 6, 1, 1))
    objective.projector = nn.Identity()  # the feature itself
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(steps):
        seen = sources(rows=128, seed=step, reach=reach) @ MIXING
        loss = model(FrameClip(frames=seen[..., None, None]))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seen = sources(rows=1000, seed=10_000, reach=reach) @ MIXING
    frames = seen[..., None, None]
    with torch.no_grad():
        return embed(model.encoder, frames.flatten(0, 1).unsqueeze(1), grid=(1, 1)).unflatten(0, (1000, 6))


@pytest.mark.proof("H1")
def test_a_slow_objective_finds_the_slow_source(result: Callable[[str], None]) -> None:
    slow = sources(rows=1000, seed=10_000, reach=0.0)[..., 0]
    features = [learn("slowness", steps=steps, reach=0.0) for steps in (0, 200)]
    untrained, trained = (correlation(one[..., 0], slow) for one in features)
    result(f"learnt: {trained:.2f}, untrained {untrained:.2f}")
    assert trained > 0.9 > untrained


@pytest.mark.proof("H3")
def test_linear_predictability_finds_what_moves_on_lines(result: Callable[[str], None]) -> None:
    """Of sources of which one is slow and one goes far but straight, the second is the more predictable."""
    path = learn("nonlinearity", steps=250)
    whole = sources(rows=1000, seed=10_000)
    straight, flicker = correlation(path[..., 0], whole[..., 1]), correlation(path[..., 0], whole[..., 2])
    error = float(nonlinearity(path) / path.var())
    result(
        f"correlation with the straight source {straight:.2f}; error of a line {error:.3f} of the variance"
    )
    assert straight > 0.6 and flicker < 0.15 and error < 0.05


@pytest.mark.proof("H4")
def test_curvature_of_lines_and_circles_is_exact(result: Callable[[str], None]) -> None:
    """On a circle of `n` points each step turns by `2 pi / n`, whatever its radius."""
    for num in (8, 19, 40):
        assert float(curvature(circle(num))) == pytest.approx(1 - np.cos(2 * np.pi / num), rel=1e-9)
    assert float(curvature(circle(19, radius=7.0))) == pytest.approx(float(curvature(circle(19))))
    start = torch.randn(1, 12, 3, dtype=torch.float64)
    path = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([path], lr=0.05)
    for _ in range(1000):
        optimizer.zero_grad()
        curvature(path).backward()
        optimizer.step()
    before, after = float(curvature(start)), float(curvature(path.detach()))
    result(f"exact on circles; descent straightens a path from {before:.2f} to {after:.4f}")
    assert after < 0.02 < before
