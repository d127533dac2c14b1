"""Charts as SVG that takes its ink from the page, so that they read on light and on dark."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worldmodel.viz.palette import OURS, SERIES, hex_of

INK = "#010203"
"""Stands for the page's text colour until the SVG is written."""
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "worldmodel",
    "font.size": 10,
    "font.family": "sans-serif",
    **{key: INK for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")},
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#8a919c",
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Curve:
    """A line over `x`, with an interval where `low` and `high` are given."""

    x: Float[np.ndarray, " N"]
    y: Float[np.ndarray, " N"]
    low: Float[np.ndarray, " N"] | None = None
    high: Float[np.ndarray, " N"] | None = None


@dataclass(frozen=True)
class Rate:
    """A share in [0, 1] with its interval."""

    value: float
    low: float
    high: float


def curve_chart(
    panels: Mapping[str, Mapping[str, Curve]], *, xlabel: str, log_y: Sequence[str] = ()
) -> bytes:
    """Returns one panel per name, all with one legend; a curve of one name has one colour in every panel.

    Args:
        log_y: names of the panels with a logarithmic axis.
    """
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    colours = {name: hex_of(SERIES[i % len(SERIES)]) for i, name in enumerate(names)}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.3 * len(panels), 3.5), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(panels)))
        for axis, (title, panel) in zip(axes, panels.items(), strict=True):
            for name, curve in panel.items():
                axis.plot(curve.x, curve.y, color=colours[name], lw=1.8, label=name)
                if curve.low is not None and curve.high is not None:
                    axis.fill_between(curve.x, curve.low, curve.high, color=colours[name], alpha=0.18, lw=0)
            axis.set(title=title, xlabel=xlabel, yscale="log" if title in log_y else "linear")
            if title not in log_y:
                axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
        handles = {h.get_label(): h for axis in axes for h in axis.get_legend_handles_labels()[0]}
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside upper center",
            ncols=min(len(handles), 2 * len(panels), 4),
        )
        return svg(figure)


def rate_chart(rates: Mapping[str, Mapping[str, Rate]], *, highlight: str = "") -> bytes:
    """Returns dots with intervals: one panel per measure (`{"safe": {agent: rate}}`), one row per agent."""
    with matplotlib.rc_context(STYLE):
        rows = max(len(panel) for panel in rates.values())
        figure = Figure(figsize=(4.3 * len(rates), 0.9 + 0.42 * rows), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(rates), sharey=True))
        for axis, (title, panel) in zip(axes, rates.items(), strict=True):
            _dots(axis, panel, highlight)
            axis.set(title=title, xlabel="% of episodes")
        return svg(figure)


def scene_map(
    at: Float[np.ndarray, "N 2"], labels: Mapping[str, Float[np.ndarray, " N"]], *, num: int = 1000
) -> bytes:
    """Returns points of a plane, one panel for each label, coloured by it; at most `num` of them."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.3 * len(labels), 3.6), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(labels)))
        for axis, (title, value) in zip(axes, labels.items(), strict=True):
            points = axis.scatter(*at[:num].T, c=value[:num], s=7, cmap="viridis", linewidths=0)
            axis.set(title=title.replace("_", " "), xticks=[], yticks=[])
            figure.colorbar(points, ax=axis, shrink=0.8)
        return svg(figure)


def _dots(axis: Axes, panel: Mapping[str, Rate], highlight: str) -> None:
    names = list(panel)
    for row, (name, rate) in enumerate(panel.items()):
        colour = hex_of(OURS) if name == highlight else hex_of(SERIES[5])
        axis.plot([100 * rate.low, 100 * rate.high], [row, row], color=colour, lw=2.4, solid_capstyle="round")
        axis.plot([100 * rate.value], [row], "o", color=colour, ms=7)
        axis.annotate(
            f"{100 * rate.value:.1f}",
            (100 * rate.value, row),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
        )
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.7)
    lowest = min(100 * rate.low for rate in panel.values())
    axis.set_xlim(max(0.0, 10 * np.floor(lowest / 10)), 101.5)
    axis.grid(axis="y", visible=False)


def svg(figure: Figure) -> bytes:
    """Returns a figure drawn in `STYLE` as SVG, to be put into a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    # Inline in a page neither the XML header nor the names of other hosts are wanted.
    text = text[text.index("<svg") :]
    head, metadata, tail = text.partition("<metadata>")
    text = head + tail.partition("</metadata>")[2] if metadata else text
    return text.replace(INK, "currentColor").encode()
