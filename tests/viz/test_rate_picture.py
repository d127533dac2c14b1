"""A dot for each agent on each test."""

import io

import numpy as np
from PIL import Image

from worldmodel.viz import Rate, rate_picture
from worldmodel.viz.palette import OURS

ONE, OTHER = Rate(0.9, 0.8, 0.95), Rate(0.5, 0.4, 0.6)


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_it_grows_with_agents_and_tests() -> None:
    small = pixels(rate_picture({"c": {"mpc": ONE}}))
    tall = pixels(rate_picture({"c": {"mpc": ONE, "idm": OTHER}}))
    wide = pixels(rate_picture({"c": {"mpc": ONE}, "mona": {"idm": OTHER}}))
    assert small.shape[0] < tall.shape[0] == wide.shape[0] and small.shape[1] == tall.shape[1] < wide.shape[1]


def test_the_best_is_on_top_and_ours_has_its_colour() -> None:
    content = rate_picture({"c": {"idm": OTHER, "mpc": ONE}}, highlight=["mpc"])
    assert content == rate_picture({"c": {"mpc": ONE, "idm": OTHER}}, highlight=["mpc"])
    ours = np.abs(pixels(content) - np.array(OURS)).sum(-1) < 30
    rows, columns = np.nonzero(ours)
    assert len(rows) > 10 and rows.max() < 0.5 * ours.shape[0]  # the upper of two rows
    assert columns.min() > 0.5 * ours.shape[1]  # 90 of 100 percent


def test_agents_that_drove_one_test_only_are_missing_on_the_other() -> None:
    content = rate_picture({"c": {"mpc": ONE}, "mona": {"idm": OTHER}}, highlight=["mpc"])
    _, columns = np.nonzero(np.abs(pixels(content) - np.array(OURS)).sum(-1) < 30)
    assert columns.max() < 0.6 * pixels(content).shape[1]
