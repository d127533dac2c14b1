"""Diagonal normals by mean and log variance: their divergences."""

import torch
from jaxtyping import Float
from torch import Tensor

LOG_VAR_MIN, LOG_VAR_MAX = -8.0, 4.0
"""Between these, log variances are kept."""


def gaussian_kl(mean: Float[Tensor, "*B Z"], log_var: Float[Tensor, "*B Z"]) -> Float[Tensor, "*B"]:
    """Returns `KL(N(mean, exp(log_var)) || N(0, I)) = -1/2 sum(1 + log_var - mean^2 - exp(log_var))`."""
    return normal_kl(mean, log_var, torch.zeros_like(log_var)).sum(-1)


def normal_kl(
    distance: Float[Tensor, "*B Z"], log_var: Float[Tensor, "*B Z"], prior_log_var: Float[Tensor, "*B Z"]
) -> Float[Tensor, "*B Z"]:
    """Returns the KL divergence between normals, dimension by dimension [nat].

    `-1/2 (1 + log v - log w - (d^2 + v) / w)` for means that are `d` apart, and variances `v` and `w`.
    """
    ratio = log_var - prior_log_var
    return -0.5 * (1 + ratio - distance.square() * (-prior_log_var).exp() - ratio.exp())


def free_bits_kl(kl: Float[Tensor, "B Z"], floor: float) -> Float[Tensor, " B"]:
    """Returns the KL of each sample, where a dimension that carries less than `floor` pays `floor`.

    The mean over the batch is `sum_j max(floor, mean_b kl[b, j])` (Kingma et al. 2016, appendix C.8): up to
    `floor` nats, nothing pulls a dimension to the prior.
    """
    return torch.where(kl.mean(0) >= floor, kl, floor).sum(-1)


def reparametrised(
    mean: Float[Tensor, "*B"], log_var: Float[Tensor, "*B"], noise: Float[Tensor, "*B"]
) -> Float[Tensor, "*B"]:
    """Returns `mean + sigma * noise`: a draw that is differentiable in the normal's parameters."""
    return mean + (0.5 * log_var).exp() * noise
