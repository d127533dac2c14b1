"""A line for each agent over the levels of a factor."""

import io

import numpy as np
from PIL import Image

from worldmodel.viz import Levels, Rate, level_chart, level_picture


def make_levels() -> Levels:
    rates = {
        "policy": [Rate(0.5, 0.3, 0.7), Rate(1.0, 0.7, 1.0 - 1e-12)],
        "lane_keeping": [Rate(0.1, 0.0, 0.3)] * 2,
    }
    return Levels(["sparse", "dense"], {"success": rates, "safe": rates})


def test_a_chart_names_levels_agents_and_measures() -> None:
    chart = level_chart("density", make_levels())
    assert chart.startswith(b"<svg") and b"#010203" not in chart
    for text in (b"sparse", b"dense", b"policy", b"lane_keeping", b"success [%]", b"safe [%]", b"density"):
        assert b">" + text + b"<" in chart


def test_a_picture_has_a_row_for_each_factor() -> None:
    one, two = (
        np.asarray(Image.open(io.BytesIO(level_picture(factors))))
        for factors in ({"density": make_levels()}, {"density": make_levels(), "road": make_levels()})
    )
    assert one.shape[1] == two.shape[1] and one.shape[0] < two.shape[0]
    assert level_picture({"density": make_levels()}) == level_picture({"density": make_levels()})
