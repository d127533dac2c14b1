"""Learning-rate schedules."""

import math
from collections.abc import Callable


def warmup_cosine(num_steps: int, *, warmup: int = 20, floor: float = 0.02) -> Callable[[int], float]:
    """Returns the factor of the learning rate by step: linear warm-up, then half a cosine to `floor`.

    Example:
        >>> factor = warmup_cosine(100, warmup=10)
        >>> factor(4), round(factor(99), 3)
        (0.5, 0.02)
    """

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, num_steps - 1 - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor
