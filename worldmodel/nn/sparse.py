"""Sparse coding: `min_a 1/2 |x - D a|^2 + weight |a|_1` by proximal gradient descent, as pure functions.

Differentiable in the target and the dictionary, through the iterations.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def unit_columns(dictionary: Float[Tensor, "D N"]) -> Float[Tensor, "D N"]:
    """Returns the dictionary with columns of norm one.

    Without this the penalty on the code is void: a code half as large, times a dictionary twice as large,
    explains as much.
    """
    return F.normalize(dictionary, dim=0)


def soft_threshold(value: Float[Tensor, "*B"], threshold: Float[Tensor, ""] | float) -> Float[Tensor, "*B"]:
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
    code = _start(target, dictionary, start)
    bound = _lipschitz(dictionary)
    for _ in range(num_steps):
        code = _shrink(code, target, dictionary, weight=weight, bound=bound)
    return code


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
    code = _start(target, dictionary, start)
    bound = _lipschitz(dictionary)
    ahead, momentum = code, 1.0
    for _ in range(num_steps):
        shrunk = _shrink(ahead, target, dictionary, weight=weight, bound=bound)
        later = 0.5 * (1 + (1 + 4 * momentum**2) ** 0.5)
        ahead = shrunk + (momentum - 1) / later * (shrunk - code)
        code, momentum = shrunk, later
    return code


def _start(target: Tensor, dictionary: Tensor, start: Tensor | None) -> Tensor:
    return target.new_zeros(target.shape[0], dictionary.shape[1]) if start is None else start


def _lipschitz(dictionary: Tensor) -> Tensor:
    """Returns the greatest curvature of the quadratic term, `|D|_2^2`."""
    return torch.linalg.matrix_norm(dictionary.detach(), ord=2).square()


def _shrink(
    code: Tensor, target: Tensor, dictionary: Tensor, *, weight: float, bound: Tensor
) -> Float[Tensor, "B N"]:
    gradient = (code @ dictionary.T - target) @ dictionary
    return soft_threshold(code - gradient / bound, weight / bound)
