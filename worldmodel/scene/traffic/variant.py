"""Populations that differ from another in one respect: how fast, or how aggressively, everybody drives."""

from dataclasses import replace
from math import exp
from typing import Any

from worldmodel.scene.traffic.population import FIERCER, DriverType, Population, Spread
from worldmodel.scene.traffic.preset import MIXED


def vary(population: Population = MIXED, *, speed: float = 1.0, aggressiveness: float = 0.0) -> Population:
    """Returns the population with its desired speeds and its aggressiveness changed.

    Args:
        population: what is changed.
        speed: factor of every desired speed.
        aggressiveness: added to the number `a` of every driver (`DriverType.aggressiveness`): headway,
            politeness and required gain times `exp(-a)`, acceleration and imposed braking times `exp(a / 2)`.

    Raises:
        ValueError: a speed that is not positive.

    Example:
        >>> slower = vary(speed=0.5)
        >>> round(slower.types[0].desired_speed.mean / MIXED.types[0].desired_speed.mean, 3)
        0.5
    """
    if speed <= 0:
        raise ValueError(
            f"speed={speed}, expected a positive factor; give 1.0 to leave the speeds as they are"
        )
    return replace(population, types=tuple(_varied(one, speed, aggressiveness) for one in population.types))


def _varied(one: DriverType, speed: float, aggressiveness: float) -> DriverType:
    factors = {name: exp(exponent * aggressiveness) for name, exponent in FIERCER.items()}
    factors["desired_speed"] = speed
    changed: dict[str, Any] = {name: _times(getattr(one, name), factor) for name, factor in factors.items()}
    return replace(one, **changed)


def _times(spread: Spread, factor: float) -> Spread:
    return Spread(spread.mean * factor, spread.std * factor)
