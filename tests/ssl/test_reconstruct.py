"""Reconstruction: every part of `E = C(y, Dec(Enc(corrupt(x)))) + R(z)` against what it has to give."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from worldmodel.nn import FrameEncoder, SquaredError
from worldmodel.ssl import FrameClip, MaskingNoise, Reconstruct, blank

Say = Callable[[str], None]


class Doubled(nn.Module):
    """A bottleneck whose price is known."""

    def forward(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        return 2 * cells, cells.new_tensor(3.0)


class Area(nn.Module):
    """A penalty that is called with everything it may read."""

    def forward(self, encoder: nn.Module, frame: Tensor, cells: Tensor) -> Tensor:
        assert isinstance(encoder, FrameEncoder) and frame.shape[1] == 3 and cells.shape[1] == 8
        return frame.new_tensor(float(frame.shape[2] * frame.shape[3]))


def test_losses_are_the_cost_and_what_the_parts_add() -> None:
    encoder = FrameEncoder(3, 8)
    objective = Reconstruct(bottleneck=Doubled(), penalty=Area(), penalty_weight=0.5)
    objective.attach(encoder, blank((2, 3, 13, 7)))
    losses = objective(encoder, FrameClip(frames=torch.rand(2, 2, 3, 13, 7)))
    torch.testing.assert_close(losses["loss"], losses["cost"] + 3.0 + 0.5 * 13 * 7)


def test_the_decoder_reads_the_map_behind_the_bottleneck() -> None:
    encoder, clip = FrameEncoder(3, 8), FrameClip(frames=torch.rand(2, 1, 3, 8, 4))
    plain = Reconstruct(width=0, cost=SquaredError())
    plain.attach(encoder, blank((1, 3, 8, 4)))
    doubled = Reconstruct(width=0, cost=SquaredError(), bottleneck=Doubled())
    doubled.attach(encoder, blank((1, 3, 8, 4)))
    doubled.decoder.load_state_dict(
        {name: value / (2 if "weight" in name else 1) for name, value in plain.decoder.state_dict().items()}
    )
    pair = plain.pair(clip)
    torch.testing.assert_close(plain.predict(encoder, pair), doubled.predict(encoder, pair))


def test_a_corrupted_frame_is_seen_and_the_clean_one_is_wanted() -> None:
    clip = FrameClip(frames=torch.rand(2, 3, 3, 8, 4))
    pair = Reconstruct(corrupt=MaskingNoise(probability=0.5)).pair(clip)
    assert torch.equal(pair.target, clip.frames.flatten(0, 1))
    lost = pair.seen[:, 0] == 0
    assert 0.4 < lost.float().mean().item() < 0.6
    assert torch.equal(pair.seen[:, 0][~lost], pair.target[~lost])
