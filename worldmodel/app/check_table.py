"""The tables on the page of `worldmodel check`, from its answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from worldmodel.costs import KINDS
from worldmodel.evaluation.verdict import Answer, by_horizon
from worldmodel.viz import Table

WAYS = {
    "encoder": "encoder's guess",
    "gradient": "gradient from the guess",
    "search": "search in the prior",
    "minimum": "F: the least of these, window by window",
    "free_energy": "free energy of the prior's draws",
}

HONESTY = {
    "ece": "calibration error",
    "bias": "bias",
    "spread_over_error": "spread / error",
    "threshold": "free below",
    "coverage": "coverage",
}
RECALIBRATION = {
    "factor": "factor",
    "ratio_before": "spread / error before",
    "ratio_after": "after",
    "bound": "bound",
    "held_before": "error below the spread before",
    "held_after": "below the bound after",
}


def horizon_table(answers: Sequence[Answer], dt: float) -> Table:
    """Returns how honest the model is, one row for each horizon."""
    return _by_horizon(HONESTY, by_horizon(answers, dt))


def recalibration_table(answers: Sequence[Answer]) -> Table | None:
    """Returns what mends the spread, one row for each horizon; None without a spread or a second vehicle."""
    numbers = numbers_of(answers, "spread").get("recalibration")
    return None if numbers is None else _by_horizon(RECALIBRATION, numbers)


def disagreement_table(apart: Mapping[str, Mapping[str, float | None]]) -> Table:
    """Returns how far members part, one row for each horizon."""
    return _by_horizon({kind: kind for kind in KINDS}, apart, digits=4)


def inference_table(answers: Sequence[Answer]) -> Table | None:
    """Returns what each way of inferring z finds; None for a model without a latent."""
    energies = numbers_of(answers, "latent").get("inference")
    if not energies:
        return None
    rows = tuple((WAYS[name], f"{energy:.5f}") for name, energy in energies.items())
    return Table(("z by", "energy"), rows)


def numbers_of(answers: Sequence[Answer], name: str) -> Mapping[str, Any]:
    """Returns the numbers of the answer called `name`."""
    return next(one for one in answers if one.name == name).numbers


def _by_horizon(
    names: Mapping[str, str], numbers: Mapping[str, Mapping[str, float | None]], *, digits: int = 3
) -> Table:
    """A column for each quantity that was found, a row for each horizon."""
    shown = [name for name in names if name in numbers]
    rows = [
        (
            f"{horizon} s",
            *("–" if (one := numbers[name][horizon]) is None else f"{one:.{digits}f}" for name in shown),
        )
        for horizon in numbers[shown[0]]
    ]
    return Table(("horizon", *(names[name] for name in shown)), tuple(rows))
