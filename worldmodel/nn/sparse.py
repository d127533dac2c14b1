"""Sparse coding: `min_a 1/2 |x - D a|^2 + weight |a|_1` by proximal gradient descent, as pure functions.

Differentiable in the target and the dictionary, through the iterations. `descend` and `accelerate` do the
same for any smooth energy and any penalty whose proximal map is known: pools of units, convolutions.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Gradient: TypeAlias = Callable[[Tensor], Tensor]
"""Code -> gradient of the smooth part of its energy."""
Shrink: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Code after a gradient step, code before it, length of the step -> code with less of a penalty."""


def unit_columns(dictionary: Float[Tensor, "D N"]) -> Float[Tensor, "D N"]:
    """Returns the dictionary with columns of norm one.

    Without this the penalty on the code is void: a code half as large, times a dictionary twice as large,
    explains as much.
    """
    return F.normalize(dictionary, dim=0)


def soft_threshold(value: Float[Tensor, "*B"], threshold: Tensor | float) -> Float[Tensor, "*B"]:
    """Returns `sign(v) max(|v| - threshold, 0)`, the proximal map of the L1 norm."""
    return value.sign() * (value.abs() - threshold).clamp_min(0.0)


def lasso_energy(
    target: Float[Tensor, "B D"],
    dictionary: Float[Tensor, "D N"],
    code: Float[Tensor, "B N"],
    *,
    weight: float,
) -> Float[Tensor, " B"]:
    """Returns `1/2 |x - D a|^2 + weight |a|_1` of each row."""
    wrong = target - code @ dictionary.T
    return 0.5 * wrong.square().sum(-1) + weight * code.abs().sum(-1)


def ista(
    target: Float[Tensor, "B D"],
    dictionary: Float[Tensor, "D N"],
    weight: float,
    *,
    num_steps: int = 100,
    start: Float[Tensor, "B N"] | None = None,
) -> Float[Tensor, "B N"]:
    """Returns sparse codes by iterative shrinkage (Daubechies et al. 2004); the energy falls at every step.

    Args:
        weight: of the L1 norm; from `|D^T x|_inf` on, the code is zero.
        start: codes to start from; zero when left out.
    """
    return descend(
        quadratic(target, dictionary),
        l1_shrink(weight),
        start=_start(target, dictionary, start),
        bound=lipschitz(dictionary),
        num_steps=num_steps,
    )


def fista(
    target: Float[Tensor, "B D"],
    dictionary: Float[Tensor, "D N"],
    weight: float,
    *,
    num_steps: int = 30,
    start: Float[Tensor, "B N"] | None = None,
) -> Float[Tensor, "B N"]:
    """Returns sparse codes by accelerated shrinkage (Beck and Teboulle 2009, equations 4.1 to 4.3).

    The energy's distance from its minimum falls with the square of the steps, but not at every one.
    Arguments as in `ista`.
    """
    return accelerate(
        quadratic(target, dictionary),
        l1_shrink(weight),
        start=_start(target, dictionary, start),
        bound=lipschitz(dictionary),
        num_steps=num_steps,
    )


def descend(
    gradient: Gradient, shrink: Shrink, *, start: Tensor, bound: Tensor, num_steps: int
) -> Float[Tensor, "B N *C"]:
    """Returns the code after steps of `z <- shrink(z - gradient(z) / bound)`.

    Args:
        bound: at least the greatest curvature of the smooth part; then the energy falls at every step.
    """
    code = start
    for _ in range(num_steps):
        code = shrink(code - gradient(code) / bound, code, 1 / bound)
    return code


def accelerate(
    gradient: Gradient, shrink: Shrink, *, start: Tensor, bound: Tensor, num_steps: int
) -> Float[Tensor, "B N *C"]:
    """Returns the code after steps with momentum (Beck and Teboulle 2009); arguments as in `descend`."""
    code, ahead, momentum = start, start, 1.0
    for _ in range(num_steps):
        shrunk = shrink(ahead - gradient(ahead) / bound, ahead, 1 / bound)
        later = 0.5 * (1 + (1 + 4 * momentum**2) ** 0.5)
        ahead = shrunk + (momentum - 1) / later * (shrunk - code)
        code, momentum = shrunk, later
    return code


def quadratic(target: Float[Tensor, "B D"], dictionary: Float[Tensor, "D N"]) -> Gradient:
    """Returns the gradient of `1/2 |x - D a|^2`."""
    return lambda code: (code @ dictionary.T - target) @ dictionary


def lipschitz(dictionary: Float[Tensor, "D N"]) -> Float[Tensor, ""]:
    """Returns the greatest curvature of the quadratic term, `|D|_2^2`."""
    return torch.linalg.matrix_norm(dictionary.detach(), ord=2).square()


def l1_shrink(weight: float) -> Shrink:
    """Returns the proximal map of `weight |a|_1`."""
    return lambda value, before, step: soft_threshold(value, weight * step)


def pool_norms(
    code: Float[Tensor, "B N *C"], pools: Float[Tensor, "P N"], *, floor: float = 0.0
) -> Float[Tensor, "B P *C"]:
    """Returns `sqrt(sum_i pools[p, i] a_i^2 + floor^2)`: how active each pool of units is."""
    return (torch.einsum("pn,bn...->bp...", pools, code.square()) + floor**2).sqrt()


def group_shrink(value: Float[Tensor, "B N *C"], size: int, threshold: Tensor) -> Float[Tensor, "B N *C"]:
    """Returns the proximal map of the sum of the norms of every `size` units in a row (group lasso)."""
    groups = value.unflatten(1, (-1, size))
    norms = torch.linalg.vector_norm(groups, dim=2, keepdim=True)
    return (groups * (1 - threshold / norms.clamp_min(1e-12)).clamp_min(0)).flatten(1, 2)


def pool_shrink(
    value: Float[Tensor, "B N *C"], before: Float[Tensor, "B N *C"], pools: Float[Tensor, "P N"], *,
    threshold: Tensor, floor: float,
) -> Float[Tensor, "B N *C"]:  # fmt: skip
    """Returns a step towards less of `sum_p pool_norms_p`, for pools that overlap.

    There is no closed proximal map. That of the parabola which touches the penalty at `before` from above is
    `value / (1 + threshold sum_p pools[p, i] / norm_p(before))`; the energy still falls at every step.
    """
    slope = torch.einsum("pn,bp...->bn...", pools, 1 / pool_norms(before, pools, floor=floor))
    return value / (1 + threshold * slope)


def torus_pools(rows: int, columns: int, *, side: int = 3) -> Float[Tensor, "N N"]:
    """Returns which units of a sheet are in the square pool around each, 1 or 0.

    Unit `i` lies at row `i // columns`; opposite edges of the sheet are neighbours, and it must not be
    smaller than `side`.
    """
    sheet = torch.eye(rows * columns).reshape(-1, rows, columns)
    shifts = range(-(side // 2), side - side // 2)
    return sum((sheet.roll((i, j), (1, 2)) for i in shifts for j in shifts), torch.zeros_like(sheet)).flatten(
        1
    )


def _start(target: Tensor, dictionary: Tensor, start: Tensor | None) -> Tensor:
    return target.new_zeros(target.shape[0], dictionary.shape[1]) if start is None else start
