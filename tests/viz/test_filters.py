"""The picture of filters: where each is, and what its values become."""

import numpy as np

from worldmodel.viz import filter_grid
from worldmodel.viz.layout import GAP


def test_each_filter_is_in_its_place_and_on_its_own_scale() -> None:
    filters = np.zeros((3, 2, 2))
    filters[0, 0, 1], filters[1, 1, 0] = 5.0, -0.1
    picture = filter_grid(filters, columns=2, scale=3)
    assert picture.shape == (GAP + 2 * (6 + GAP), GAP + 2 * (6 + GAP), 3)
    first = picture[GAP : GAP + 6, GAP : GAP + 6, 0]
    second = picture[GAP : GAP + 6, 2 * GAP + 6 : 2 * GAP + 12, 0]
    third = picture[2 * GAP + 6 : 2 * GAP + 12, GAP : GAP + 6, 0]
    assert first[0, 5] == 255 and first[0, 0] == 128
    assert second[5, 0] == 0 and second[0, 0] == 128
    assert (third == 128).all()
