"""Frames to be looked at: what an objective makes of them, beside the truth."""

import pytest
import torch

from worldmodel.nn import FrameEncoder
from worldmodel.ssl import (
    Centre,
    EgoState,
    FrameClip,
    HiddenBox,
    MaskedAutoEncoder,
    Objective,
    PatchDictionary,
    Prepare,
    Reconstruct,
    Whiten,
    blank,
)


@pytest.mark.parametrize("prepare", [Prepare(), Centre(), Whiten()])
def test_frames_come_back_from_their_prepared_patches(prepare: Prepare) -> None:
    torch.manual_seed(0)
    frame = torch.rand(20, 2, 12, 6)
    dictionary = PatchDictionary(5, margin=(1, 1), prepare=prepare)
    dictionary.attach(2, (4, 2), (3, 3))
    dictionary.refit(frame)
    found = dictionary.frames(dictionary.targets(frame), (12, 6))
    torch.testing.assert_close(found, frame, atol=1e-4, rtol=0)


@pytest.mark.parametrize("objective", [Reconstruct(corrupt=HiddenBox(share=0.5)), MaskedAutoEncoder()])
def test_only_what_was_hidden_is_filled_in(objective: Objective) -> None:
    torch.manual_seed(0)
    encoder, clip = FrameEncoder(3, 8), FrameClip(frames=0.1 + 0.8 * torch.rand(2, 3, 3, 16, 8))
    objective.attach(encoder, blank((3, 3, 16, 8)))
    frames = objective.pictures(encoder, clip)
    torch.testing.assert_close(frames["truth"], clip.frames.flatten(0, 1))
    is_hidden = frames["seen"] == 0
    assert 0.2 < is_hidden.float().mean() < 0.8
    assert torch.equal(frames["given back"] == frames["truth"], ~is_hidden)
    assert torch.equal(frames["seen"][~is_hidden], frames["truth"][~is_hidden])


def test_instruments_are_no_frames() -> None:
    encoder = FrameEncoder(3, 8)
    objective = Reconstruct(source=EgoState())
    objective.attach(encoder, blank((3, 3, 16, 8)))
    assert objective.pictures(encoder, blank((3, 3, 16, 8))) == {}
