"""Panels as a picture."""

import io

import numpy as np
import pytest
from PIL import Image

from worldmodel.viz import Curve, Panel, Rate, panel_grid

X = np.arange(5.0)


def make_panels(offset: float = 0.0) -> list[Panel]:
    curves = {"one": Curve(X, X + offset, X, X + 1.0), "two": Curve(X, 2 * X)}
    rates = {"one": Rate(0.5, 0.2, 1.4), "two": Rate(1.0, 0.9, 1.1)}
    return [Panel("speed", "density", "m/s", curves=curves), Panel("changes", "per km", rates=rates)]


def test_the_panels_are_one_picture_the_same_every_time() -> None:
    picture = panel_grid(make_panels(), dashed=["two"])
    width, height = Image.open(io.BytesIO(picture)).size
    assert (width, height) == (1200, 370)  # a row of three places
    assert panel_grid(make_panels(), dashed=["two"]) == picture


@pytest.mark.slow
def test_what_is_shown_is_what_is_given() -> None:
    assert panel_grid(make_panels()) != panel_grid(make_panels(0.5))
    assert panel_grid(make_panels(), dashed=["one"]) != panel_grid(make_panels())
