"""`worldmodel calibrate`: recorded traffic -> a population of simulated drivers, from its training part.

IDM's parameters are fitted driver by driver (`worldmodel.evaluation.driver_fit`). What a lane change must
gain and how long it takes are then set so that the simulated scenario has the recorded rate and the recorded
lateral speed: scaled by what is missing, round by round. How many of the recorded lane changes MOBIL would
then have made, and how many that nobody made, is written beside.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from worldmodel.app.compose import Config, build
from worldmodel.app.realism import part_of
from worldmodel.app.run import Run
from worldmodel.evaluation.driver_fit import (
    PARAMETERS,
    DriverFit,
    fit_drivers,
    following_pieces,
    population_of,
)
from worldmodel.evaluation.lane_motive import motives
from worldmodel.evaluation.realism import Flow, measure
from worldmodel.scene import Recording
from worldmodel.scene.traffic import DriverType, Population, Scenario, Spread, simulate

POPULATION, NUMBERS = "population.yaml", "calibration.json"
MOST, LEAST = 2.0, 0.5
"""By what a round changes a parameter, at most."""


def main(config: Config) -> None:
    """Fits, tunes, writes."""
    run = Run.start(config, "calibrate")
    recordings = part_of(build(config.data), "train")
    recorded = measure(recordings)
    with run.timed("fit"):
        fit = fit_drivers([pieces for one in recordings for pieces in following_pieces(one)])
    sizes = np.concatenate([one.tracks.size for one in recordings])
    population = population_of(fit, sizes, like=build(config.like))
    rounds: list[dict[str, float]] = []
    with run.timed("tune"):
        for _ in range(config.rounds):
            scenario = replace(build(config.scenario), population=population)
            flow = measure(_simulated(config, scenario))
            population, row = tuned(population, recorded, flow)
            rounds.append(row)
    run.write(POPULATION, f"# {config.name}: made by worldmodel calibrate.\n{as_yaml(population)}")
    told = [motives(one, population.types[0]) for one in recordings]
    mobil = {name: _count([getattr(one, name) for one in told]) for name in ("changed", "stayed")}
    run.write(NUMBERS, {**describe(fit), "rounds": rounds, "mobil": mobil})
    Console().print(as_table(fit))
    run.close()


def tuned(population: Population, recorded: Flow, simulated: Flow) -> tuple[Population, dict[str, float]]:
    """Returns the population with lane changes nearer to the recorded ones, and what was found before."""
    rate, wanted = simulated.change_rate.estimate, recorded.change_rate.estimate
    first = population.types[0]
    row = {"rate": rate, "wanted_rate": wanted, "min_gain": first.min_gain.mean}
    row |= {"lateral_time": first.lateral_time.mean}
    gain = float(np.clip(np.sqrt(rate / wanted), LEAST, MOST)) if wanted > 0 else MOST
    time = 1.0
    if len(simulated.lateral_speed) and len(recorded.lateral_speed):
        row["lateral_speed"] = float(np.median(simulated.lateral_speed))
        row["wanted_lateral_speed"] = float(np.median(recorded.lateral_speed))
        time = float(np.clip(row["lateral_speed"] / row["wanted_lateral_speed"], LEAST, MOST))
    types = tuple(
        replace(
            one,
            min_gain=_times(one.min_gain, gain),
            lateral_time=_times(one.lateral_time, time),
            heading_time=_times(one.heading_time, time),
        )
        for one in population.types
    )
    return replace(population, types=types), row


def read_population(path: str) -> Population:
    """Returns the population that the command wrote; for `population` in a scenario's configuration.

    Raises:
        FileNotFoundError: there is none.
    """
    found = build(OmegaConf.load(path))
    assert isinstance(found, Population)
    return found


def as_yaml(population: Population) -> str:
    """Returns a population as a configuration."""
    types = []
    for one in population.types:
        values = {
            name: {"_target_": _name(Spread), **value} if isinstance(value, dict) else value
            for name, value in asdict(one).items()
        }
        types.append({"_target_": _name(DriverType), **values})
    config = {"_target_": _name(Population), "types": types, "exit_share": population.exit_share}
    return OmegaConf.to_yaml(OmegaConf.create(config))


def describe(fit: DriverFit) -> dict[str, Any]:
    """Returns a fit as numbers for JSON."""
    rows = {
        name: {
            "median": float(np.exp(fit.mean[i])),
            "log_std": float(fit.std[i]),
            "identified": float(fit.identified[i]),
        }
        for i, name in enumerate(PARAMETERS)
    }
    errors = {"distance_log": fit.gap_error, "speed": fit.speed_error}
    return {"drivers": len(fit.drivers), "parameters": rows, "errors": errors}


def as_table(fit: DriverFit) -> Table:
    """Returns the population's parameters, for a terminal."""
    table = Table("parameter", "median", "log std", "identified", title=f"{len(fit.drivers)} drivers")
    for name, row in describe(fit)["parameters"].items():
        table.add_row(name, *(f"{value:.2f}" for value in row.values()))
    return table


def _simulated(config: Config, scenario: Scenario) -> list[Recording]:
    sizes = {"num_scenes": config.scenes, "num_frames": config.frames}
    return simulate(scenario, **sizes, seed=config.seed, warm_up=config.warm_up)


def _count(answers: Sequence[np.ndarray]) -> list[int]:
    """How often the answer is yes, and how many there are."""
    joined = np.concatenate(answers)
    return [int(joined.sum()), len(joined)]


def _times(spread: Spread, factor: float) -> Spread:
    return Spread(round(spread.mean * factor, 4), round(spread.std * factor, 4))


def _name(kind: type) -> str:
    return f"worldmodel.scene.traffic.{kind.__name__}"
