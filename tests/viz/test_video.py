"""Videos come back as they went in, up to the codec."""

import numpy as np
import pytest

from worldmodel.viz import decode_video, encode_video


def test_a_video_has_as_many_pictures_as_went_in_and_even_sizes() -> None:
    pictures = [np.full((33, 41, 3), shade, dtype=np.uint8) for shade in (0, 80, 160, 240)]
    decoded = decode_video(encode_video(pictures, hold=2))
    assert decoded.shape == (6, 32, 40, 3)
    assert np.abs(decoded.mean(axis=(1, 2, 3)) - [0, 80, 160, 240, 240, 240]).max() < 4


def test_pictures_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        encode_video([np.zeros((32, 32, 3), np.uint8), np.zeros((32, 34, 3), np.uint8)])


def test_no_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        encode_video([])
