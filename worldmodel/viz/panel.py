"""A grid of panels, each with axes of its own and one legend for all, as PNG."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worldmodel.viz.chart import STYLE, Curve, Rate
from worldmodel.viz.palette import SERIES, hex_of

COLUMNS = 3
RESOLUTION = 100
"""[dots per inch]"""


@dataclass(frozen=True)
class Panel:
    """Curves, or numbers with intervals, by name.

    Attributes:
        curves: over `x`.
        rates: one row each; a panel has either.
    """

    title: str
    xlabel: str
    ylabel: str = ""
    curves: Mapping[str, Curve] | None = None
    rates: Mapping[str, Rate] | None = None


def panel_grid(panels: Sequence[Panel], *, dashed: Sequence[str] = ()) -> bytes:
    """Returns the panels; a name has one colour in all of them.

    Args:
        dashed: names whose curves are dashed, and whose bands are left out.
    """
    names = list(dict.fromkeys(name for one in panels for name in (one.curves or one.rates or {})))
    colours = {name: hex_of(SERIES[i % len(SERIES)]) for i, name in enumerate(names)}
    rows = -(-len(panels) // COLUMNS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.0 * COLUMNS, 3.2 * rows + 0.5), layout="constrained", dpi=RESOLUTION)
        axes = np.atleast_1d(figure.subplots(rows, COLUMNS)).ravel()
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        for axis, panel in zip(axes, panels, strict=False):
            _lines(axis, panel.curves or {}, colours, dashed)
            _rows(axis, panel.rates or {}, colours)
            axis.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel)
        handles = {h.get_label(): h for axis in axes for h in axis.get_legend_handles_labels()[0]}
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(len(names), 6))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()


def _lines(
    axis: Axes, curves: Mapping[str, Curve], colours: Mapping[str, str], dashed: Sequence[str]
) -> None:
    for name, curve in curves.items():
        style = "--" if name in dashed else "-"
        axis.plot(curve.x, curve.y, style, color=colours[name], lw=1.8, label=name)
        if curve.low is not None and curve.high is not None and name not in dashed:
            axis.fill_between(curve.x, curve.low, curve.high, color=colours[name], alpha=0.15, lw=0)
    if curves:
        axis.set_ylim(bottom=0.0)


def _rows(axis: Axes, rates: Mapping[str, Rate], colours: Mapping[str, str]) -> None:
    for row, (name, rate) in enumerate(rates.items()):
        axis.plot([rate.low, rate.high], [row, row], color=colours[name], lw=2.4)
        axis.plot([rate.value], [row], "o", color=colours[name], ms=6)
    if rates:
        axis.set_yticks(range(len(rates)), list(rates))
        axis.set_ylim(len(rates) - 0.4, -0.6)
        axis.set_xlim(left=0.0)
