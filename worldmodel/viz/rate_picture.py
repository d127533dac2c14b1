"""Rates of many agents on several tests, as a PNG: a dot with its interval for each, one row per agent."""

import io
from collections.abc import Collection, Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from worldmodel.viz.chart import STYLE, Rate
from worldmodel.viz.palette import OURS, SERIES, hex_of


def rate_picture(
    panels: Mapping[str, Mapping[str, Rate]], *, highlight: Collection[str] = (), dpi: int = 80
) -> bytes:
    """Returns one panel for each test as PNG: `{test: {agent: rate}}`.

    Rows are the agents of all panels, the highest rate of the first panel that they are in on top.

    Args:
        highlight: agents in the colour of ours.
    """
    first: dict[str, float] = {}
    for panel in panels.values():
        for agent, rate in panel.items():
            first.setdefault(agent, rate.value)
    rows = sorted(first, key=lambda agent: -first[agent])
    lowest = min(100 * rate.low for panel in panels.values() for rate in panel.values())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.6 + 3.4 * len(panels), 0.8 + 0.24 * len(rows)), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
        for axis, (title, panel) in zip(axes, panels.items(), strict=True):
            for row, agent in enumerate(rows):
                if agent in panel:
                    rate, colour = panel[agent], hex_of(OURS if agent in highlight else SERIES[5])
                    axis.plot([100 * rate.low, 100 * rate.high], [row, row], color=colour, lw=2.0, alpha=0.55)
                    axis.plot([100 * rate.value], [row], "o", color=colour, ms=5.5)
            axis.set(title=title, xlabel="% of episodes", xlim=(10 * np.floor(lowest / 10), 101))
        axes[0].set_yticks(range(len(rows)), rows)
        axes[0].set_ylim(len(rows) - 0.4, -0.6)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
        return buffer.getvalue()
