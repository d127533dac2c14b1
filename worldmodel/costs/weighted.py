"""From terms to a cost: names, weights, and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from worldmodel.types import CostTerms, Rollout

Terms: TypeAlias = Mapping[str, Float[Tensor, "B T"]]
"""Named, unweighted terms."""

TermFn: TypeAlias = Callable[[Rollout], Terms]
"""What this package is made of: a small object that reads a rollout and names what it found."""


@dataclass(frozen=True)
class WeightedCost:
    """A `Cost`: the terms of several functions, each term with its weight.

    Attributes:
        costs: term functions; their names must differ.
        weights: one number for each name, zero included, so that a forgotten weight is not a silent zero.

    Example:
        >>> from worldmodel.costs import Comfort, Goal
        >>> cost = WeightedCost((Goal(target_speed=25.0), Comfort(dt=0.1)), {
        ...     "progress": 0.5, "overspeed": 1.0, "reverse": 1.0,
        ...     "accel": 0.02, "jerk": 0.002, "lateral": 0.05, "curvature": 1.0,
        ... })
    """

    costs: Sequence[TermFn]
    weights: Mapping[str, float]

    def __call__(self, rollout: Rollout) -> CostTerms:
        """Returns the terms of `rollout` with their weights.

        Raises:
            ValueError: when two terms share a name, or names and weights do not match.
        """
        terms: dict[str, Tensor] = {}
        for cost in self.costs:
            found = cost(rollout)
            if twice := terms.keys() & found.keys():
                raise ValueError(f"two costs name a term {sorted(twice)}; give each term its own name")
            terms.update(found)
        if terms.keys() != self.weights.keys():
            missing, unknown = terms.keys() - self.weights.keys(), self.weights.keys() - terms.keys()
            raise ValueError(
                f"weights must name every term once: missing {sorted(missing)}, unknown {sorted(unknown)}; "
                f"the costs offer {sorted(terms)}"
            )
        return CostTerms(terms, self.weights)
