"""The tables on the page of `worldmodel check`, from its answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from worldmodel.evaluation.verdict import Answer
from worldmodel.viz import Table

WAYS = {
    "encoder": "encoder's guess",
    "gradient": "gradient from the guess",
    "search": "search in the prior",
    "minimum": "F: the least of these, window by window",
    "free_energy": "free energy of the prior's draws",
}


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
