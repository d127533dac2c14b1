"""Masked auto-encoders: what is hidden is not seen, and is told from the rest."""

import math
from collections.abc import Callable

import pytest
import torch

from tests.ssl.patch import learn
from worldmodel.nn import FrameEncoder, PatchTransformer, SquaredError, positions
from worldmodel.ssl import FrameClip, MaskedAutoEncoder, blank

Say = Callable[[str], None]


@pytest.mark.parametrize("encoder", [PatchTransformer(3, 8, patch=(4, 2)), FrameEncoder(3, 8)])
def test_what_is_hidden_is_not_seen_and_what_is_visible_does_not_count(
    encoder: PatchTransformer | FrameEncoder,
) -> None:
    torch.manual_seed(0)
    objective = MaskedAutoEncoder(cost=SquaredError())
    objective.attach(encoder, blank((1, 3, 13, 7)))
    frame = torch.rand(2, 3, 13, 7)
    hidden = objective.hidden(frame)
    assert hidden.shape == (2, 16) and (hidden.sum(1) == 12).all()
    mask = objective.mask(hidden, frame)[..., :13, :7]
    other = torch.where(mask.bool(), torch.rand_like(frame), frame)
    output = objective.decoded(encoder, frame, hidden)
    torch.testing.assert_close(objective.decoded(encoder, other, hidden), output)
    seen = torch.where(mask.bool(), frame, torch.rand_like(frame))
    cost = objective.cost(output, frame, mask)
    torch.testing.assert_close(objective.cost(output, seen, mask), cost)


def test_hidden_cells_are_no_tokens() -> None:
    encoder, count = PatchTransformer(1, 8, patch=(2, 2)), []
    encoder.blocks.register_forward_pre_hook(lambda _, tokens: count.append(tokens[0].shape[1]))
    objective = MaskedAutoEncoder(ratio=0.75)
    objective.attach(encoder, blank((1, 1, 8, 8)))
    objective(encoder, FrameClip(frames=torch.rand(2, 1, 1, 8, 8)))
    encoder(torch.rand(2, 1, 8, 8))
    assert count == [4, 16]


def test_cells_read_alone_are_those_of_the_map_where_nothing_is_hidden() -> None:
    encoder, frame = PatchTransformer(1, 8, patch=(2, 2)), torch.rand(2, 1, 8, 8)
    cells = torch.stack([torch.randperm(16), torch.randperm(16)])
    whole = encoder(frame).flatten(2).mT
    found = encoder.read(frame, cells)
    for row in range(2):
        torch.testing.assert_close(found[row], whole[row, cells[row]])


def test_positions_differ_and_need_a_multiple_of_four() -> None:
    place = positions((30, 12), 16)
    assert torch.cdist(place, place).fill_diagonal_(1.0).min().item() > 0.05
    with pytest.raises(ValueError, match="6 features, expected a multiple of 4"):
        positions((2, 2), 6)


@pytest.mark.slow
@pytest.mark.proof("D11")
def test_hidden_patches_are_told_as_well_as_they_can_be(result: Say) -> None:
    """Bars across the frame, black or white: a hidden patch is certain where another of its row is seen.

    With 4 of 16 patches seen, none of a hidden one's row is in `C(12, 4) / C(15, 4)` of all cases; the error
    is 1/4 then, and nothing otherwise.
    """
    torch.manual_seed(0)
    rows = torch.rand(1200, 1, 4, 1).round().repeat_interleave(2, 2).expand(-1, -1, -1, 8)
    seen, held_out = rows[:800, None], rows[800:]
    encoder = PatchTransformer(1, 32, patch=(2, 2), depth=1)
    objective = MaskedAutoEncoder(ratio=0.75, width=32, cost=SquaredError())
    objective.attach(encoder, blank((1, 1, 8, 8)))
    learn(objective, encoder, FrameClip(frames=seen), steps=150, batch=32)
    with torch.no_grad():
        hidden = objective.hidden(held_out)
        found = objective.decoded(encoder, held_out, hidden)
    error = SquaredError()(found, held_out, objective.mask(hidden, held_out)).item()
    least = 0.25 * math.comb(12, 4) / math.comb(15, 4)
    assert error < 1.15 * least
    result(f"squared error of the hidden three quarters {error:.3f} (least {least:.3f}, mean image 0.25)")
