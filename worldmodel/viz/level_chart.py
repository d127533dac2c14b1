"""Rates against the levels of a factor: a line for each agent, with intervals; as SVG, or as PNG."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from worldmodel.viz.chart import STYLE, Rate, svg
from worldmodel.viz.palette import SERIES, hex_of

SPREAD = 0.3
"""Width over which the agents of a level stand side by side; levels are 1 apart."""
MARKS = "osD^vP*X"


@dataclass(frozen=True)
class Levels:
    """What is drawn of a factor.

    Attributes:
        names: of its levels.
        panels: one for each measure: `{"success": {agent: [rate at each level]}}`.
    """

    names: Sequence[str]
    panels: Mapping[str, Mapping[str, Sequence[Rate]]]


def level_chart(factor: str, levels: Levels) -> bytes:
    """Returns the panels of a factor as SVG."""
    with matplotlib.rc_context(STYLE):
        return svg(_draw({factor: levels}))


def level_picture(factors: Mapping[str, Levels], *, dpi: int = 80) -> bytes:
    """Returns one row of panels for each factor as PNG."""
    with matplotlib.rc_context(STYLE):
        buffer = io.BytesIO()
        _draw(factors).savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
        return buffer.getvalue()


def _draw(factors: Mapping[str, Levels]) -> Figure:
    wide = max(len(one.panels) for one in factors.values())
    figure = Figure(figsize=(4.3 * wide, 0.5 + 2.7 * len(factors)), layout="constrained")
    axes = figure.subplots(len(factors), wide, squeeze=False)
    for row, (factor, levels) in zip(axes, factors.items(), strict=True):
        for axis, (title, rates) in zip(row, levels.panels.items(), strict=False):
            places = np.linspace(-SPREAD / 2, SPREAD / 2, len(rates)) if len(rates) > 1 else np.zeros(1)
            for number, (place, (agent, found)) in enumerate(zip(places, rates.items(), strict=True)):
                value, low, high = 100 * np.array([[one.value, one.low, one.high] for one in found]).T
                axis.errorbar(
                    np.arange(len(found)) + place, value, np.stack([value - low, high - value]).clip(0),
                    color=hex_of(SERIES[number % len(SERIES)]), marker=MARKS[number % len(MARKS)],
                    ms=5, lw=1.4, elinewidth=1.0, label=agent,
                )  # fmt: skip
            axis.set_xticks(range(len(levels.names)), levels.names)
            axis.set(xlabel=factor, ylabel=f"{title} [%]", ylim=(-3, 103))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 3 * wide))
    return figure
