"""`worldmodel realism`: how simulated traffic flows, beside recorded traffic: a picture, a table, numbers."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from worldmodel.app.compose import Config, UsageError, build
from worldmodel.app.run import Run
from worldmodel.data import Store
from worldmodel.evaluation.realism import DISTRIBUTIONS, Flow, distances, measure, speed_curve
from worldmodel.scene import Recording
from worldmodel.scene.traffic import simulate
from worldmodel.viz import Curve, Panel, Rate, panel_grid

NUMBERS, DISTANCES, PICTURE = "realism.json", "distances.csv", "realism.png"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SHOWN = {
    "time_gap": ("time gap (net)", "s", (0.0, 6.0)),
    "acceleration": ("acceleration, means over 1 s", "m/s²", (-3.0, 3.0)),
    "lateral_speed": ("lane changes: fastest lateral speed", "m/s", (0.0, 3.0)),
    "low_speed_gap": ("gap below 2 m/s", "m", (0.0, 15.0)),
}
"""Distributions that are drawn: title, unit, range."""
BINS = 24
LEAST_SAMPLES = 10
"""Of a distribution that is drawn."""


def main(config: Config) -> None:
    """Measures, compares, draws."""
    run = Run.start(config, "realism")
    flows: dict[str, Flow] = {}
    with run.timed("recorded"):
        for name, store in config.recorded.items():
            flows |= _of_store(name, build(store), config.parts)
    recorded = list(flows)
    reference = config.reference or next(iter(flows), None)
    if reference not in flows:
        raise UsageError(f"reference={reference!r}, expected one of {recorded}")
    with run.timed("simulated"):
        for name, scenario in config.simulated.items():
            flows[f"{name} (simulated)"] = measure(_simulate(config, scenario))
    compared = {
        one: {other: distances(flows[one], flows[other]) for other in flows if other != one}
        for one in recorded
    }
    numbers = {"measured": {name: describe(flow) for name, flow in flows.items()}, "distances": compared}
    run.write(NUMBERS, {"reference": reference, **numbers})
    run.write(DISTANCES, as_csv(compared))
    run.write(PICTURE, picture(flows, recorded=recorded))
    Console().print(as_table(flows, compared[reference], reference))
    run.close()


def part_of(store: Store, part: str) -> list[Recording]:
    """Returns the recordings of a part of a store, cut to its frames."""
    return [store[span.recording].crop(span.first, span.last) for span in getattr(store.split, part)]


def describe(flow: Flow) -> dict[str, Any]:
    """Returns what is in a flow, as numbers for JSON."""
    rate = flow.change_rate
    found: dict[str, Any] = {
        "kilometres": flow.kilometres,
        "cells": len(flow.cell_density),
        "mean_density": float(np.mean(flow.cell_density)) if len(flow.cell_density) else None,
        "lane_changes_per_km": [rate.estimate, rate.low, rate.high],
        "lane_changes": len(flow.lateral_speed),
    }
    for name in DISTRIBUTIONS:
        samples = getattr(flow, name)
        quantiles = {f"{q:g}": float(np.quantile(samples, q)) for q in QUANTILES if len(samples)}
        found[name] = {"samples": len(samples), "quantiles": quantiles}
    density, speed = speed_curve(flow)
    found["speed_of_density"] = {f"{at:g}": row for at, row in zip(density, speed.tolist(), strict=True)}
    return found


def picture(flows: Mapping[str, Flow], *, recorded: Sequence[str]) -> bytes:
    """Returns speed against density, distributions and lane-change rates of all, as PNG."""
    speeds = {}
    for name, flow in flows.items():
        density, speed = speed_curve(flow)
        speeds[name] = Curve(density, *speed.T)
    panels = [
        Panel("speed, with 10 % and 90 % quantiles", "density [vehicles/km/lane]", "m/s", curves=speeds)
    ]
    for quantity, (title, unit, limits) in SHOWN.items():
        drawn = {
            name: _histogram(getattr(flow, quantity), limits)
            for name, flow in flows.items()
            if len(getattr(flow, quantity)) >= LEAST_SAMPLES
        }
        panels.append(Panel(title, unit, "probability density", curves=drawn))
    rates = {
        name: Rate(one.estimate, one.low, one.high)
        for name, one in ((name, flow.change_rate) for name, flow in flows.items())
    }
    panels.append(Panel("lane changes", "per vehicle-kilometre", rates=rates))
    return panel_grid(panels, dashed=[name for name in flows if name not in recorded])


def as_csv(compared: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Returns the distances, one a row."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("of", "from", "measure", "distance"))
    for reference, others in compared.items():
        for other, found in others.items():
            writer.writerows((other, reference, name, f"{value:.6g}") for name, value in found.items())
    return stream.getvalue()


def as_table(flows: Mapping[str, Flow], found: Mapping[str, Mapping[str, float]], reference: str) -> Table:
    """Returns medians, rates and the distances from the reference, for a terminal."""
    title = f"medians; changes/km; W: Wasserstein's distance from {reference}; v(k): error of its curve"
    table = Table("traffic", title=title, box=SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
    for column in ("speed", "gap s", "W", "accel", "W", "changes", "lateral", "W", "v(k)"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, flow in flows.items():
        apart = found.get(name, {})
        table.add_row(
            name,
            _median(flow.speed),
            _median(flow.time_gap),
            _number(apart.get("time_gap_wasserstein")),
            f"±{flow.acceleration.std():.2f}",
            _number(apart.get("acceleration_wasserstein")),
            f"{flow.change_rate.estimate:.2f}",
            _median(flow.lateral_speed),
            _number(apart.get("lateral_speed_wasserstein")),
            _number(apart.get("speed_density_error")),
        )
    return table


def _of_store(name: str, store: Store, parts: Sequence[str]) -> dict[str, Flow]:
    found = {part: part_of(store, part) for part in parts}
    return {f"{name} {part}": measure(recordings) for part, recordings in found.items() if recordings}


def _simulate(config: Config, scenario: Config) -> list[Recording]:
    return simulate(
        build(scenario),
        num_frames=config.frames,
        num_scenes=config.scenes,
        seed=config.seed,
        warm_up=config.warm_up,
    )


def _histogram(samples: np.ndarray, limits: tuple[float, float]) -> Curve:
    """The density of the samples within the limits; what lies outside counts, too."""
    height, edges = np.histogram(samples, BINS, range=limits)
    width = edges[1] - edges[0]
    return Curve((edges[1:] + edges[:-1]) / 2, height / (max(len(samples), 1) * width))


def _median(samples: np.ndarray) -> str:
    return f"{np.median(samples):.2f}" if len(samples) else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
