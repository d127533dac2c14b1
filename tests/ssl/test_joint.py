"""Joint embedding: what two views share is found, what differs is lost, and nothing collapses."""

from collections.abc import Callable

import pytest
import torch
from sklearn.cross_decomposition import CCA
from torch import Tensor, nn

from worldmodel.nn import Configured, FrameEncoder
from worldmodel.ssl import (
    Agreement,
    BarlowTwins,
    Changed,
    Cosine,
    FrameClip,
    InfoNCE,
    JointEmbed,
    Neighbours,
    NTXent,
    PairMargin,
    Pretraining,
    SelfDistillation,
    Shuffled,
    SIGReg,
    VICReg,
    embed,
)
from worldmodel.ssl.redundancy import bit_entropies, minimum_entropy_code

CONTENT, NUISANCE = 2, 4


class Linear(Configured):
    """A linear encoder of vectors, as frames of one pixel."""

    stride = (1, 1)

    def __init__(self, dim: int, features: int) -> None:
        super().__init__()
        self.features = features
        self.map = nn.Conv2d(dim, features, 1, bias=False)

    def forward(self, frame: Tensor) -> Tensor:
        return self.map(frame)


MIXING = torch.randn(CONTENT + NUISANCE, 8, generator=torch.Generator().manual_seed(7))


def batch(seed: int, rows: int = 256) -> tuple[FrameClip, Tensor]:
    """Two frames that share their content; a stronger nuisance is drawn anew for each."""
    generator = torch.Generator().manual_seed(seed)
    content = torch.randn(rows, 1, CONTENT, generator=generator).expand(-1, 2, -1)
    nuisance = 2 * torch.randn(rows, 2, NUISANCE, generator=generator)
    seen = torch.cat([content, nuisance], dim=-1) @ MIXING
    return FrameClip(frames=seen[..., None, None]), content[:, 0]


def read_off(code: Tensor, content: Tensor) -> float:
    """Share of the content's variance that is linear in the code."""
    code = code - code.mean(0)
    fitted = code @ torch.linalg.lstsq(code, content - content.mean(0)).solution
    return 1 - float((content - content.mean(0) - fitted).square().sum() / content.square().sum())


def learn(agree: Agreement, *, steps: int = 300, lr: float = 0.02, **kwargs: object) -> Pretraining:
    torch.manual_seed(0)
    objective = JointEmbed(Neighbours(), agree, dim=kwargs.pop("dim", 16), width=32, **kwargs)  # type: ignore[arg-type]
    model = Pretraining(Linear(8, CONTENT + 1), objective, (2, 8, 1, 1))
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=lr)
    for step in range(steps):
        loss = model(batch(step)[0])["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(model.encoder)
    return model


def share_of_content(model: Pretraining) -> float:
    clip, content = batch(10_000, 2000)
    with torch.no_grad():
        return read_off(model.encoder(clip.frames[:, 0])[..., 0, 0], content)


def best_possible() -> float:
    """What canonical correlation analysis, the optimum of linear views, reads off."""
    clip, content = batch(10_000, 2000)
    one, other = (clip.frames[:, t, :, 0, 0] for t in (0, 1))
    cca = CCA(CONTENT, max_iter=1000).fit(one.numpy(), other.numpy())
    return read_off(torch.from_numpy(cca.transform(one.numpy())).float(), content)


PARTS: dict[str, Callable[[], Pretraining]] = {
    "siamese": lambda: learn(PairMargin(1.0, hardest=True)),
    "moco": lambda: learn(InfoNCE(0.1, queue=512), momentum=0.95),
    "simclr": lambda: learn(NTXent(0.2)),
    "vicreg": lambda: learn(VICReg()),
    "barlow": lambda: learn(BarlowTwins()),
    "sigreg": lambda: learn(SIGReg(0.05)),
    "byol": lambda: learn(Cosine(), predictor=True, momentum=0.95),
    "simsiam": lambda: learn(Cosine(), predictor=True),
    "dino": lambda: learn(SelfDistillation(target_temperature=0.06), momentum=0.95, dim=32),
}


def found(name: str, result: Callable[[str], None], *, at_least: float) -> None:
    untrained = share_of_content(learn(NTXent(), steps=0))
    trained, best = share_of_content(PARTS[name]()), best_possible()
    result(f"content read off {trained:.2f}, untrained {untrained:.2f}, CCA {best:.2f}")
    assert best > 0.95 and untrained < 0.5
    assert trained > at_least


@pytest.mark.slow
@pytest.mark.proof("F1")
def test_siamese_networks_find_what_views_share(result: Callable[[str], None]) -> None:
    found("siamese", result, at_least=0.8)


@pytest.mark.slow
@pytest.mark.proof("F4")
def test_moco_finds_what_views_share(result: Callable[[str], None]) -> None:
    found("moco", result, at_least=0.8)


@pytest.mark.slow
@pytest.mark.proof("F5")
def test_simclr_finds_what_views_share(result: Callable[[str], None]) -> None:
    found("simclr", result, at_least=0.8)


@pytest.mark.slow
@pytest.mark.proof("F10")
def test_vicreg_finds_what_views_share(result: Callable[[str], None]) -> None:
    found("vicreg", result, at_least=0.8)


@pytest.mark.slow
@pytest.mark.proof("F11")
def test_barlow_twins_find_what_views_share(result: Callable[[str], None]) -> None:
    found("barlow", result, at_least=0.8)


@pytest.mark.proof("F9")
def test_a_minimum_entropy_code_takes_mixed_bits_apart(result: Callable[[str], None]) -> None:
    """Independent bits, mixed by a reversible linear map: the code's bits are independent again."""
    share = torch.tensor([0.1, 0.25, 0.05, 0.35, 0.15])
    sources = torch.rand(20_000, 5, generator=torch.Generator().manual_seed(0)) < share
    mixed = sources.clone()
    for i, j in ((0, 1), (2, 0), (3, 2), (1, 3), (4, 0), (2, 4)):
        mixed[:, i] ^= mixed[:, j]
    code, matrix = minimum_entropy_code(mixed)
    joint = float(bit_entropies(sources).sum())  # of independent bits
    before, after = float(bit_entropies(mixed).sum()), float(bit_entropies(code).sum())
    result(f"sum of bit entropies {before:.2f} to {after:.2f} bit, joint {joint:.2f}")
    assert before > joint + 0.5 and after == pytest.approx(joint, abs=0.01)
    again = (mixed.long() @ matrix.long().T) % 2 == 1
    assert torch.equal(again, code)


@pytest.mark.slow
@pytest.mark.proof("F12")
def test_sigreg_finds_what_views_share(result: Callable[[str], None]) -> None:
    found("sigreg", result, at_least=0.8)


@pytest.mark.slow
@pytest.mark.proof("F13")
def test_byol_finds_what_views_share(result: Callable[[str], None]) -> None:
    found("byol", result, at_least=0.8)


@pytest.mark.slow
@pytest.mark.proof("F14")
def test_simsiam_finds_what_views_share(result: Callable[[str], None]) -> None:
    found("simsiam", result, at_least=0.8)


@pytest.mark.slow
@pytest.mark.proof("F17")
def test_dino_finds_what_views_share(result: Callable[[str], None]) -> None:
    found("dino", result, at_least=0.8)


def blobs(rows: int, *, seed: int, num_frames: int = 2) -> tuple[FrameClip, Tensor]:
    """A car on a road of 16 x 8 pixels, which drifts a little from frame to frame, on a random grey."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand(rows, 1, 2, generator=generator) * torch.tensor([12.0, 6.0]) + torch.tensor([2.0, 1.0])
    drift = 0.4 * torch.randn(rows, num_frames, 2, generator=generator).cumsum(1)
    at = (place + drift)[..., None, None]
    y, x = torch.arange(16.0)[:, None], torch.arange(8.0)
    car = (-((y - at[:, :, 0]) ** 2 + (x - at[:, :, 1]) ** 2) / 2).exp()
    grey = 0.5 * torch.rand(rows, num_frames, 1, 1, generator=generator)
    return FrameClip(frames=(car + grey).clamp_max(1).unsqueeze(2)), place[:, 0]


def pretrain(objective: JointEmbed, *, steps: int, num_frames: int = 2) -> Pretraining:
    torch.manual_seed(0)
    model = Pretraining(FrameEncoder(1, 8), objective, (num_frames, 1, 16, 8))
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=3e-3)
    for step in range(steps):
        loss = model(blobs(64, seed=step, num_frames=num_frames)[0])["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(model.encoder)
    return model.eval()


def embeddings(model: Pretraining, frame: Tensor) -> Tensor:
    objective = model.objective
    assert isinstance(objective, JointEmbed)
    with torch.no_grad():
        return objective.projector(embed(model.encoder, frame.unsqueeze(1), grid=objective.grid))


@pytest.mark.slow
@pytest.mark.proof("F6", "T4")
def test_the_frame_that_comes_next_is_found_among_others(result: Callable[[str], None]) -> None:
    clip, place = blobs(128, seed=999)

    def hits(model: Pretraining) -> float:
        now, later = (embeddings(model, clip.frames[:, t]) for t in (0, 1))
        return float((torch.cdist(now, later).argmin(1) == torch.arange(128)).float().mean())

    def objective() -> JointEmbed:
        return JointEmbed(Neighbours(), NTXent(0.2), dim=8, width=32, grid=(4, 4))

    untrained, trained = (pretrain(objective(), steps=steps) for steps in (0, 150))
    result(
        f"next frame found among 128: {100 * hits(trained):.0f} %, untrained {100 * hits(untrained):.0f} %"
    )
    assert hits(trained) > 0.3 and hits(trained) > 1.5 * hits(untrained)
    code = embeddings(trained, clip.frames[:, 0])
    near = torch.cdist(code, code).fill_diagonal_(torch.inf).argmin(1)
    assert (place - place[near]).norm(dim=1).mean() < 0.5 * torch.cdist(place, place).mean()


@pytest.mark.slow
@pytest.mark.proof("F3")
def test_pirl_forgets_the_order_of_the_strips(result: Callable[[str], None]) -> None:
    views = Shuffled(4)
    frame = blobs(128, seed=998)[0].frames[:, 0]
    torch.manual_seed(1)
    _, mixed = views(FrameClip(frames=frame.unsqueeze(1)))

    def nearness(steps: int) -> float:
        objective = JointEmbed(views, InfoNCE(0.2, queue=256), dim=8, width=32, momentum=0.95, grid=(4, 4))
        one, other = (embeddings(pretrain(objective, steps=steps), part) for part in (frame, mixed))
        return float((one - other).norm(dim=1).mean() / torch.cdist(one, one).mean())

    untrained, trained = nearness(0), nearness(200)
    result(f"distance to the shuffled self over that to others {trained:.2f}, untrained {untrained:.2f}")
    assert trained < 0.6 < untrained


def test_shuffled_strips_are_the_same_strips() -> None:
    frame = torch.arange(2 * 8 * 3.0).reshape(2, 1, 1, 8, 3)
    one, other = Shuffled(4)(FrameClip(frames=frame))
    rows = [part.unflatten(2, (4, 2)).flatten(3).squeeze(1) for part in (one, other)]
    for before, after in zip(*rows, strict=True):
        assert sorted(before.tolist()) == sorted(after.tolist())


def test_changed_views_keep_the_scene() -> None:
    clip, place = blobs(64, seed=3)
    torch.manual_seed(0)
    views = Changed(shift=0.05, scale=0.05, shade=0.1)
    changed = views(clip).one
    assert not torch.equal(changed, clip.frames[:, 0])
    brightest = changed.flatten(1).argmax(1)
    seen = torch.stack([brightest // 8, brightest % 8], dim=1).float()
    assert (seen - place).norm(dim=1).median() < 2.0
    still = Changed(shift=0.0, scale=0.0, shade=0.0)(clip).one
    torch.testing.assert_close(still, clip.frames[:, 0], atol=1e-5, rtol=0)


def test_neighbours_need_clips_long_enough() -> None:
    with pytest.raises(ValueError, match="neighbours 2 frames apart in clips of 2"):
        Neighbours(2)(batch(0)[0])


def test_a_queue_remembers_the_newest() -> None:
    agree = InfoNCE(queue=4)
    agree.attach(1)
    for value in (1.0, 2.0, 3.0):
        agree(torch.ones(2, 1), torch.full((2, 1), value))
    assert agree.queue.flatten().tolist() == [3.0, 3.0, 2.0, 2.0] and int(agree.filled) == 4
    agree.eval()
    agree(torch.ones(2, 1), torch.full((2, 1), 9.0))
    assert agree.queue.max() == 3.0
