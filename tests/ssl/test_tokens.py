"""Words of frames from known Markov chains: as well told as enumeration says they can be."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.ssl.patch import PatchEncoder
from worldmodel.nn import PatchTransformer
from worldmodel.ssl import FrameClip, MaskedTokens, NextTokens, Objective, Pretraining

Say = Callable[[str], None]
ROAD = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.2, 0.8], [0.9, 0.1, 0.0]])
"""Free road, front and rear of a vehicle: which follows which along a lane."""
CELLS = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.5]], [[0.0, 0.5], [1.0, 1.0]]])
"""What they look like."""


def draw(chance: Tensor, generator: torch.Generator) -> Tensor:
    """One of K for each row of `(..., K)`."""
    flat = chance.flatten(0, -2)
    return torch.multinomial(flat, 1, generator=generator).view(chance.shape[:-1])


def pictures(words: Tensor) -> Tensor:
    """`(B, N)` words of a lane, or `(B, R, N)` of several -> frames with cells of 2 x 2 pixels."""
    lanes = words if words.dim() == 3 else words[:, None]
    return CELLS[lanes].permute(0, 1, 3, 2, 4).flatten(3, 4).flatten(1, 2)[:, None]


def lanes(number: int, *, length: int = 8, seed: int) -> Tensor:
    """Words `(B, 2, N)` of two lanes, each a chain of its own that is in balance."""
    generator = torch.Generator().manual_seed(seed)
    words = [draw(balance().expand(number, 2, 3), generator)]
    for _ in range(length - 1):
        words.append(draw(ROAD[words[-1]], generator))
    return torch.stack(words, 2)


def balance() -> Tensor:
    """How common each word is."""
    return torch.linalg.matrix_power(ROAD, 100)[0]


def told_by_neighbours(words: Tensor, hidden: Tensor) -> Tensor:
    """Exact log probability of each word of lanes `(..., N)` given those that are not hidden.

    `p(z | left, right) ~ P^a[left, z] P^b[z, right]`, where the nearest visible ones are a and b away.
    """
    powers = torch.stack([torch.linalg.matrix_power(ROAD, n) for n in range(words.shape[-1] + 1)])
    found = torch.zeros(words.shape)
    for lane in range(words.shape[0]):
        seen = [n for n in range(words.shape[1]) if not hidden[lane, n]]
        for n in range(words.shape[1]):
            left = max((m for m in seen if m < n), default=None)
            right = min((m for m in seen if m > n), default=None)
            chance = balance() if left is None else powers[n - left][words[lane, left]]
            chance = chance if right is None else chance * powers[right - n][:, words[lane, right]]
            found[lane, n] = (chance[words[lane, n]] / chance.sum()).log()
    return found


def train(objective: Objective, encoder: nn.Module, clip: FrameClip, *, steps: int, lr: float) -> Pretraining:
    torch.manual_seed(0)
    model = Pretraining(encoder, objective, tuple(clip.frames.shape[1:]))
    objective.refit(encoder, [clip[torch.arange(200)]])
    optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        loss = model(clip[torch.randint(clip.batch_size, (64,))])["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@pytest.mark.slow
@pytest.mark.proof("T3")
def test_hidden_words_are_told_as_well_as_enumeration_tells_them(result: Say) -> None:
    torch.manual_seed(0)
    encoder, objective = PatchTransformer(1, 32, patch=(2, 2), depth=1), MaskedTokens(3)
    clip = FrameClip(frames=pictures(lanes(6000, seed=0))[:, None])
    train(objective, encoder, clip, steps=300, lr=5e-3)
    words = lanes(400, seed=1)
    frame = pictures(words)
    hidden = objective.filler.hide(frame, ratio=0.5)
    exact = told_by_neighbours(words.flatten(0, 1), hidden.unflatten(1, (2, -1)).flatten(0, 1)).view(400, -1)
    with torch.no_grad():
        said, named = objective.logits(encoder, frame, hidden).log_softmax(-1), objective.vocabulary(frame)
    for one in range(3):  # whatever its number, a word is one thing
        assert len(named[words.flatten(1) == one].unique()) == 1
    found = -said.gather(2, named[..., None])[..., 0][hidden].mean().item()
    least, alone = -exact[hidden].mean().item(), -(balance() * balance().log()).sum().item()
    result(
        f"cross-entropy of hidden words {found:.3f} nat (exact {least:.3f}, by frequency alone {alone:.3f})"
    )
    assert 0.95 * least < found < 1.05 * least < 0.65 * alone


FOLLOWS = torch.tensor(
    [
        [[0.8, 0.2, 0.0], [0.1, 0.9, 0.0], [0.0, 0.3, 0.7]],
        [[0.1, 0.1, 0.8], [0.6, 0.0, 0.4], [0.1, 0.8, 0.1]],
        [[0.0, 0.7, 0.3], [0.5, 0.4, 0.1], [0.9, 0.1, 0.0]],
    ]
)
"""`p(word | the one to its left, the one in its place a frame before)`."""


def successions(number: int, *, length: int = 6, seed: int) -> tuple[Tensor, Tensor]:
    """Words of a frame, at random, and of the next one; to the left of its first one there is word 0."""
    generator = torch.Generator().manual_seed(seed)
    before = torch.randint(3, (number, length), generator=generator)
    left, after = torch.zeros(number, dtype=torch.long), []
    for place in range(length):
        left = draw(FOLLOWS[left, before[:, place]], generator)
        after.append(left)
    return before, torch.stack(after, 1)


def entropies(length: int = 6) -> tuple[float, float]:
    """Of a word given the one to its left and the one before, and given all to its left alone [nat, mean]."""
    left = torch.tensor([1.0, 0.0, 0.0])
    both = alone = 0.0
    for _ in range(length):
        joint = left[:, None, None] * FOLLOWS / 3  # (left, before, word)
        pair = joint.sum(1)
        both -= torch.xlogy(joint, FOLLOWS).sum().item() / length
        alone -= torch.xlogy(pair, pair / left[:, None].clamp_min(1e-9)).sum().item() / length
        left = pair.sum(0)
    return both, alone


@pytest.mark.slow
@pytest.mark.proof("T1")
def test_words_one_after_another_reach_the_entropy_of_their_chain(result: Say) -> None:
    torch.manual_seed(0)
    encoder, objective = PatchEncoder(1, 16, (2, 2)), NextTokens(3)
    before, after = successions(6000, seed=0)
    clip = FrameClip(frames=torch.stack([pictures(before), pictures(after)], 1))
    model = train(objective, encoder, clip, steps=300, lr=5e-3)
    before, after = successions(2000, seed=1)
    new = torch.stack([pictures(before), pictures(after)], 1)
    with torch.no_grad():
        found = model(FrameClip(frames=new))["loss"].item()
        others = torch.stack([new[:, 0].roll(1, 0), new[:, 1]], 1)
        blind = model(FrameClip(frames=others))["loss"].item()
    least, alone = entropies()
    names = torch.zeros(3, dtype=torch.long)
    names[objective.vocabulary(new[:, 0])] = before
    drawn = names[objective.draw(encoder, new[:, :1])]
    left = torch.cat([torch.zeros_like(drawn[:, :1]), drawn[:, :-1]], 1)
    number = torch.bincount((9 * left + 3 * before + drawn).flatten(), minlength=27).view(3, 3, 3)
    off = (number / number.sum(-1, keepdim=True) - FOLLOWS).abs().max().item()
    result(
        f"cross-entropy {found:.3f} nat (chain's entropy {least:.3f}, without the frame before {alone:.3f}); "
        f"words drawn follow each other as in the chain, off by {off:.2f} at most"
    )
    assert least - 0.02 < found < 1.05 * least < 0.6 * alone < blind
    assert off < 0.08
