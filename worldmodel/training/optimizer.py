"""Learning-rate schedules."""

import math
from collections.abc import Callable

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn

from worldmodel.nn import FineTuned


def warmup_cosine(
    num_steps: int, *, warmup: int = 20, floor: float = 0.02, elapsed: Callable[[], float] = lambda: 0.0
) -> Callable[[int], float]:
    """Returns the factor of the learning rate by step: linear warm-up, then half a cosine to `floor`.

    Args:
        num_steps: after which the floor is reached.
        warmup: steps.
        floor: last factor.
        elapsed: share of a time budget that is used up; the floor is reached with whichever ends first, so
            that a slow machine anneals too.

    Example:
        >>> factor = warmup_cosine(100, warmup=10)
        >>> factor(4), round(factor(99), 3)
        (0.5, 0.02)
    """

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, max(elapsed(), (step - warmup) / max(1, num_steps - 1 - warmup)))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def ramp(step: int, num_steps: int, *, share: float, start: float = 1e-4, elapsed: float = 0.0) -> float:
    """Returns a weight that grows geometrically from `start` to 1 over the first `share` of a schedule.

    Args:
        step: now.
        num_steps: of the schedule.
        share: 0: the weight is 1 at once.
        start: the weight at first.
        elapsed: share of a time budget that is used up, where that is farther on.

    Example:
        >>> [round(ramp(step, 100, share=0.5), 2) for step in (0, 25, 50, 99)]
        [0.0, 0.01, 1.0, 1.0]
    """
    return 1.0 if share <= 0 else start ** (1.0 - min(1.0, max(elapsed, step / num_steps) / share))


def learnt_groups(model: nn.Module) -> list[dict[str, object]]:
    """Returns the parameters to learn, `FineTuned` parts in groups with a `lr_factor` of their own.

    Frozen parameters are left out. `scheduled` applies the factors.
    """
    slow = [part for part in model.modules() if isinstance(part, FineTuned)]
    theirs = {id(one) for part in slow for one in part.parameters()}
    parts = [(1.0, [one for one in model.parameters() if id(one) not in theirs])]
    parts += [(part.lr_factor, list(part.parameters())) for part in slow]
    groups = [(factor, [one for one in params if one.requires_grad]) for factor, params in parts]
    return [{"params": params, "lr_factor": factor} for factor, params in groups if params]


def scheduled(
    optimizer: torch.optim.Optimizer, num_steps: int, *, elapsed: Callable[[], float] = lambda: 0.0
) -> OptimizerLRScheduler:
    """Returns an optimiser with `warmup_cosine` by step, as Lightning wants it; applies `learnt_groups`."""
    for group in optimizer.param_groups:
        group["lr"] *= group.pop("lr_factor", 1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(num_steps, elapsed=elapsed))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
