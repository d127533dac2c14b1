"""Blocks and encoders."""

import pytest
import torch

from worldmodel.nn import FrameEncoder, ResidualBlock, dropout_mask


def test_a_new_block_is_the_identity() -> None:
    h = torch.randn(2, 8, 5, 4)
    torch.testing.assert_close(ResidualBlock(8)(h), h)


def test_mask_keeps_the_mean_and_switches_whole_channels() -> None:
    mask = dropout_mask(400, 50, 0.2, like=torch.zeros(1), generator=torch.Generator().manual_seed(0))
    assert mask.shape == (400, 50, 1, 1)
    assert mask.unique().tolist() == pytest.approx([0.0, 1.25])
    assert mask.mean().item() == pytest.approx(1.0, abs=0.02)


def test_mask_of_zeros_leaves_the_residual_out() -> None:
    block = ResidualBlock(4)
    torch.nn.init.normal_(block.second.weight)
    h = torch.randn(1, 4, 5, 4)
    torch.testing.assert_close(block(h, torch.zeros(1, 4, 1, 1)), h)
    assert not torch.allclose(block(h), h)


def test_encoder_map_covers_the_padded_frame() -> None:
    encoder = FrameEncoder(3, features=6)
    assert encoder(torch.zeros(2, 3, 120, 24)).shape == (2, 6, 30, 12)
    assert encoder.features == 6
