"""Pretext tasks: questions with free answers, what they teach, and what gives the answer away."""

from collections.abc import Callable
from itertools import permutations

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from torch import nn

from tests.ssl.patch import PatchEncoder, digits, learn
from worldmodel.nn.cluster import nearest
from worldmodel.ssl import (
    ArrowOfTime,
    Classify,
    Clusters,
    DroppedChannels,
    Flipped,
    FrameClip,
    Jigsaw,
    MaskingNoise,
    RelativePatch,
    Rotated,
    ShuffledFrames,
    Transform,
    blank,
)
from worldmodel.ssl.cluster import k_means

Say = Callable[[str], None]


def numbered(batch: int, num_frames: int, height: int, width: int) -> FrameClip:
    """Each pixel knows where and when it is: `100 t + 10 row + column`."""
    time, row, column = torch.arange(num_frames), torch.arange(height), torch.arange(width)
    frames = (100 * time[:, None, None] + 10 * row[:, None] + column).float()
    return FrameClip(frames=frames[None, :, None].expand(batch, -1, -1, -1, -1))


def test_answers_say_what_was_done() -> None:
    torch.manual_seed(0)
    clip = numbered(40, 3, 8, 4)
    frame = clip.frames.flatten(0, 1)
    flipped = Flipped()(clip)
    for view, image, label in zip(flipped.views[:, 0], frame, flipped.label, strict=True):
        dims = [dim for dim, bit in ((-2, label & 1), (-1, label & 2)) if bit]
        assert torch.equal(view.flip(dims) if dims else view, image)
    square = numbered(40, 1, 4, 4)
    turned = Rotated()(square)
    for view, image, label in zip(turned.views[:, 0], square.frames[:, 0], turned.label, strict=True):
        assert torch.equal(view.rot90(-int(label), (-2, -1)), image)
    arrow = ArrowOfTime()(clip)
    for views, label in zip(arrow.views, arrow.label, strict=True):
        assert (bool(views[0, 0, 0, 0] > views[1, 0, 0, 0])) == bool(label)
    assert set(flipped.label.tolist()) == set(turned.label.tolist()) == set(range(4))


def test_orders_are_those_of_the_strips_and_of_the_frames() -> None:
    torch.manual_seed(0)
    clip = numbered(40, 3, 8, 4)
    jigsaw, shuffled = Jigsaw(num_strips=2, gap=1)(clip), ShuffledFrames(num_frames=3)(clip)
    assert jigsaw.views.shape == (120, 2, 1, 2, 4) and shuffled.views.shape == (40, 3, 1, 8, 4)
    strip = (jigsaw.views[:, :, 0, 0, 0] % 100 - 10) / 40  # of rows 1 or 5
    torch.testing.assert_close(strip, torch.tensor([[0.0, 1.0], [1.0, 0.0]])[jigsaw.label])
    order = torch.tensor(list(permutations(range(3))))
    assert torch.equal((shuffled.views[:, :, 0, 0, 0] / 100).long(), order[shuffled.label])


def test_patches_lie_where_the_answer_says_and_never_touch() -> None:
    torch.manual_seed(0)
    question = RelativePatch(gap=0.5, jitter=1)(numbered(100, 1, 24, 12))
    assert question.views.shape[-2:] == (4, 2)
    first = question.views[:, :, 0, 0, 0]  # 10 row + column; columns go up to 11
    row, column = (first / 10).floor(), first % 10
    around = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)]
    for step, label in zip((row[:, 1] - row[:, 0]), question.label, strict=True):
        assert abs(step.item() - 8 * around[int(label)][0]) <= 3  # jitter of both, and the columns' carry
    assert set(question.label.tolist()) == set(range(8)) and column.max() < 10


@pytest.mark.parametrize(
    ("transform", "message"),
    [(Rotated(), r"frame of \(8, 4\), expected a square"), (Jigsaw(num_strips=4), "strips of 2 rows")],
)
def test_what_cannot_be_asked_is_refused(transform: Transform, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transform(numbered(2, 1, 8, 4))


def test_k_means_is_near_the_best_and_leaves_no_cluster_empty() -> None:
    torch.manual_seed(0)
    rows = torch.cat([torch.randn(60, 2) * 0.1 + centre for centre in torch.randn(8, 2) * 3])
    energies = []
    for _ in range(5):
        centres = k_means(rows, 8)
        label = nearest(rows, centres)
        assert len(set(label.tolist())) == 8
        energies.append((rows - centres[label]).square().sum().item())
    best = KMeans(8, n_init=10, random_state=0).fit(rows.numpy()).inertia_
    assert best * (1 - 1e-4) <= min(energies) < 1.05 * best
    with pytest.raises(ValueError, match="5 rows for 8 clusters"):
        k_means(rows[:5], 8)


def held_out_accuracy(objective: Classify, encoder: nn.Module, clip: FrameClip) -> float:
    with torch.no_grad():
        return torch.stack([objective(encoder, clip)["accuracy"] for _ in range(3)]).mean().item()


def network(channels: int, features: int, size: tuple[int, int]) -> PatchEncoder:
    """A small network on whole views of one size."""
    encoder = PatchEncoder(channels, features, size)
    encoder.layers = nn.Sequential(nn.Conv2d(channels, 128, size), nn.SiLU(), nn.Conv2d(128, features, 1))
    return encoder


@pytest.mark.slow
@pytest.mark.proof("G2")
def test_strips_of_digits_are_put_in_order_and_those_of_noise_are_not(result: Say) -> None:
    torch.manual_seed(0)
    image = digits()[0]
    found = {}
    for name, frames in {"digits": image, "noise": torch.rand_like(image)}.items():
        encoder = network(1, 32, (2, 8))
        objective = Classify(Jigsaw(num_strips=4, gap=0), width=32)
        objective.attach(encoder, blank((1, 1, 8, 8)))
        learn(objective, encoder, FrameClip(frames=frames[:1400, None]), steps=400)
        found[name] = held_out_accuracy(objective, encoder, FrameClip(frames=frames[1400:, None]))
    assert found["digits"] > 0.3 and abs(found["noise"] - 1 / 24) < 0.03
    result(f"24 orders: accuracy {found['digits']:.2f} on unseen digits, {found['noise']:.2f} on noise")


def drive(count: int, *, decay: float) -> FrameClip:
    """A blob on a ring road, to either side, whose speed changes by a factor from frame to frame."""
    speed = torch.rand(count, 1) * 2 + 1
    side, start = torch.randint(2, (count, 1)) * 2 - 1, 16 * torch.rand(count, 1)
    travelled = torch.cat([torch.zeros(1), decay ** torch.arange(3)]).cumsum(0)
    place = start + side * speed * travelled  # (B, T)
    far = (torch.arange(16) - place[..., None] + 8).remainder(16) - 8
    return FrameClip(frames=(-far.square() / 2).exp()[:, :, None, :, None].expand(-1, -1, -1, -1, 4))


@pytest.mark.slow
@pytest.mark.proof("G11")
def test_braking_shows_the_arrow_of_time_and_steady_motion_does_not(result: Say) -> None:
    found = {}
    for name, decay in {"braking": 0.5, "steady": 1.0}.items():
        torch.manual_seed(0)
        encoder = network(1, 32, (16, 4))
        objective = Classify(ArrowOfTime(), width=64)
        objective.attach(encoder, blank((4, 1, 16, 4)))
        learn(objective, encoder, drive(4000, decay=decay), steps=300)
        found[name] = held_out_accuracy(objective, encoder, drive(1000, decay=decay))
    assert found["braking"] > 0.9 and abs(found["steady"] - 0.5) < 0.05
    result(f"accuracy {found['braking']:.2f} where cars brake, {found['steady']:.2f} where none does")


def aberrant(count: int) -> FrameClip:
    """Noise through a lens: its second channel is shifted outwards by a pixel, away from the middle."""
    grey = torch.rand(count, 26, 26)
    step = torch.tensor([-1] * 8 + [0] * 8 + [1] * 8) + torch.arange(1, 25)
    other = grey[:, step][:, :, step]
    return FrameClip(frames=torch.stack([grey[:, 1:25, 1:25], other], 1)[:, None])


@pytest.mark.slow
@pytest.mark.proof("G1")
def test_context_is_told_by_colour_fringes_unless_channels_are_dropped(result: Say) -> None:
    """The short cut of Doersch et al. 2015: noise has no context, and yet its place shows in its colours."""
    found = {}
    for name, corrupt in {"both channels": None, "one dropped": DroppedChannels()}.items():
        torch.manual_seed(0)
        encoder = PatchEncoder(2, 16, (6, 6))
        encoder.layers = nn.Sequential(
            nn.Conv2d(2, 64, 3),
            nn.ReLU(),
            nn.Conv2d(64, 64, 1),
            nn.ReLU(),
            nn.AvgPool2d(4),
            nn.Conv2d(64, 16, 1),
        )
        objective = Classify(RelativePatch(gap=0.25, jitter=0), corrupt=corrupt)
        objective.attach(encoder, blank((1, 2, 24, 24)))
        learn(objective, encoder, aberrant(3000), steps=300, batch=64, lr=6e-3)
        found[name] = held_out_accuracy(objective, encoder, aberrant(1000))
    assert found["both channels"] > 0.5 and found["one dropped"] < 0.16
    result(
        "accuracy on noise (chance 0.12): "
        + ", ".join(f"{name} {value:.2f}" for name, value in found.items())
    )


@pytest.mark.slow
@pytest.mark.proof("G13")
def test_clusters_of_digits_come_to_agree_with_what_they_show(result: Say) -> None:
    torch.manual_seed(0)
    image, digit = digits()
    clip = FrameClip(frames=image[:, None])
    encoder = PatchEncoder(1, 64, (8, 8))
    encoder.layers = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 4)
    )
    objective = Classify(Clusters(num_clusters=20), corrupt=MaskingNoise(probability=0.3))
    objective.attach(encoder, blank((1, 1, 8, 8)))
    transform = objective.transform
    assert isinstance(transform, Clusters)
    agreement, shares = [], []
    for _ in range(6):
        objective.refit(encoder, [clip])
        label = transform(clip).label
        agreement.append(float(normalized_mutual_info_score(digit.numpy(), label.numpy())))
        shares.append(transform.share.min().item())
        learn(objective, encoder, clip, steps=60, batch=128)
    assert agreement[-1] > agreement[0] + 0.02 and min(shares) > 0
    result(f"mutual information with the digit {agreement[0]:.2f} -> {agreement[-1]:.2f}, no cluster empty")


@pytest.mark.slow
@pytest.mark.proof("G9")
def test_digits_are_set_upright(result: Say) -> None:
    torch.manual_seed(0)
    image = digits()[0]
    encoder = network(1, 32, (8, 8))
    objective = Classify(Rotated())
    objective.attach(encoder, blank((1, 1, 8, 8)))
    learn(objective, encoder, FrameClip(frames=image[:1400, None]), steps=600)
    accuracy = held_out_accuracy(objective, encoder, FrameClip(frames=image[1400:, None]))
    assert accuracy > 0.85
    result(f"accuracy {accuracy:.2f} on unseen digits (chance 0.25)")
