"""Who drives: seeded distributions over drivers and vehicles."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from worldmodel.scene.traffic.state import NO_EXIT

WIDEST = 2.0
"""No quantity lies farther from its mean than so many standard deviations."""
FIERCER = {"headway": -1.0, "accel": 0.5, "min_gain": -1.0, "politeness": -1.0, "safe_decel": 0.5}
"""Exponent of aggressiveness in each parameter: `value exp(exponent a)`."""


@dataclass(frozen=True)
class Spread:
    """A normal distribution, cut off at two standard deviations and at zero."""

    mean: float
    std: float = 0.0

    def draw(self, rng: np.random.Generator, num: int) -> np.ndarray:
        """Returns `num` values."""
        return np.maximum(self.mean + self.std * _cut_normal(rng, num), 0.0)


@dataclass(frozen=True)
class DriverType:
    """Drivers of one kind; fields as in `Drivers`.

    The defaults are highway-env's, but nobody reverses or has to brake hard after changing lanes.

    Attributes:
        share: of all drivers, relative to that of the other types.
        aggressiveness: standard deviation of a number `a` for each driver, by which all that is hasty in him
            varies together: headway, politeness and required gain times `exp(-a)`, acceleration and the
            braking that he imposes on others times `exp(a / 2)`.
    """

    share: float = 1.0
    length: Spread = Spread(5.0)
    width: Spread = Spread(2.0)
    desired_speed: Spread = Spread(25.0)
    headway: Spread = Spread(1.5)
    gap: Spread = Spread(5.0)
    accel: Spread = Spread(3.0)
    decel: Spread = Spread(5.0)
    delta: Spread = Spread(4.0)
    politeness: Spread = Spread(0.0)
    min_gain: Spread = Spread(0.2)
    safe_decel: Spread = Spread(2.0)
    own_decel: Spread = Spread(4.0)
    lateral_time: Spread = Spread(0.6)
    heading_time: Spread = Spread(0.2)
    slowest: Spread = Spread(0.0)
    noise_std: Spread = Spread(0.0)
    aggressiveness: float = 0.0

    def draw(self, rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
        """Returns `num` drivers, column by column."""
        fierce = self.aggressiveness * _cut_normal(rng, num)
        columns = {}
        for one in fields(self):
            spread = getattr(self, one.name)
            if isinstance(spread, Spread):
                columns[one.name] = spread.draw(rng, num) * np.exp(FIERCER.get(one.name, 0.0) * fierce)
        return columns


@dataclass(frozen=True)
class Population:
    """A mixture of drivers.

    Attributes:
        types: of drivers.
        exit_share: share of the drivers who leave by an exit, where the road has any.

    Example:
        >>> trucks = DriverType(share=0.2, length=Spread(12.0), desired_speed=Spread(22.0))
        >>> drivers = Population((DriverType(), trucks)).draw(np.random.default_rng(0), 1000)
        >>> 0.15 < np.mean(drivers["length"] == 12.0) < 0.25
        True
    """

    types: Sequence[DriverType] = (DriverType(),)
    exit_share: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", tuple(self.types))  # configurations have lists

    def draw(
        self, rng: np.random.Generator, num: int, *, exits: tuple[int, ...] = ()
    ) -> dict[str, np.ndarray]:
        """Returns `num` drivers, column by column as in `Drivers`.

        Args:
            exits: lanes by which one can leave the road.
        """
        share = np.array([one.share for one in self.types])
        kind = rng.choice(len(self.types), size=num, p=share / share.sum())
        drawn = [one.draw(rng, num) for one in self.types]
        columns = {name: np.choose(kind, [one[name] for one in drawn]) for name in drawn[0]}
        leaves = rng.random(num) < (self.exit_share if exits else 0.0)
        columns["exit"] = np.where(leaves, rng.choice(exits or (NO_EXIT,), size=num), NO_EXIT)
        columns["changes"] = np.ones(num, dtype=bool)
        return columns


def _cut_normal(rng: np.random.Generator, num: int) -> np.ndarray:
    return np.clip(rng.standard_normal(num), -WIDEST, WIDEST)
