"""How an energy is made high where there is no data, as losses: pure functions of a callable energy.

The binary ones compare a state with its neighbours, which differ in one bit; given some of the sites only,
they are unbiased estimates. All are means over the rows.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from worldmodel.nn.sampler import Energy


def contrast(
    energy: Energy, data: Float[Tensor, "B *D"], samples: Float[Tensor, "N *D"]
) -> Float[Tensor, ""]:
    """Returns `mean E(data) - mean E(samples)`.

    For samples of the model, its gradient is that of `-log p`: `dE(y) - <dE>_P`.
    """
    return energy(data).mean() - energy(samples.detach()).mean()


def negative_log_likelihood(
    energy: Energy, data: Float[Tensor, "B *D"], support: Float[Tensor, "N *D"]
) -> Float[Tensor, ""]:
    """Returns `mean E(data) + log sum exp(-E)` over everything there is [nat]."""
    return energy(data).mean() + torch.logsumexp(-energy(support), 0)


def block_likelihood(
    energy: Energy, state: Float[Tensor, "B *D"], sites: Int[Tensor, "B K"]
) -> Float[Tensor, ""]:
    """Returns `-log p(bits at the sites | all others)`, its sum over their `2^K` settings exact [nat].

    With all the sites it is the negative log likelihood; with some, a composite likelihood (Lindsay 1988).
    """
    settings = bit_strings(sites.shape[1]).to(state)  # (N, K)
    places = sites[:, None].expand(-1, len(settings), -1)  # (B, N, K)
    flat = state.flatten(1)[:, None].expand(-1, len(settings), -1)  # (B, N, D)
    every = flat.scatter(2, places, settings.expand(len(state), -1, -1))
    return (energy(state) + torch.logsumexp(-_energies(energy, every, state), 1)).mean()


def ratio_matching(
    energy: Energy, state: Float[Tensor, "B *D"], sites: Int[Tensor, "B K"]
) -> Float[Tensor, ""]:
    """Returns `sum_i sigmoid(E(x) - E(x with bit i flipped))^2` (Hyvarinen 2007)."""
    climb = energy(state)[:, None] - _energies(energy, flipped(state.flatten(1), sites), state)
    return climb.sigmoid().square().mean() * state[0].numel()


def minimum_flow(
    energy: Energy, state: Float[Tensor, "B *D"], sites: Int[Tensor, "B K"]
) -> Float[Tensor, ""]:
    """Returns `sum_i exp((E(x) - E(x with bit i flipped)) / 2)` (Sohl-Dickstein et al. 2011).

    That is how fast probability begins to flow from the data to neighbours under the model's dynamics.
    """
    climb = energy(state)[:, None] - _energies(energy, flipped(state.flatten(1), sites), state)
    return (0.5 * climb).exp().mean() * state[0].numel()


def score_matching(
    energy: Energy, point: Float[Tensor, "B *D"], probes: Float[Tensor, "P B *D"] | None = None
) -> Float[Tensor, ""]:
    """Returns `1/2 |grad E|^2 - laplace E` (Hyvarinen 2005).

    Args:
        probes: directions of mean zero and covariance one, which the Laplacian is estimated along
            (Hutchinson 1990); all unit vectors, exactly, when left out.
    """
    with torch.enable_grad():
        at = point.detach().requires_grad_()
        (slope,) = torch.autograd.grad(energy(at).sum(), at, create_graph=True)
        if probes is None:
            axes = torch.eye(point[0].numel(), dtype=point.dtype, device=point.device)
            directions = axes.view(-1, 1, *point.shape[1:]).expand(-1, *point.shape)
        else:
            directions = probes
        curved = [
            (torch.autograd.grad((slope * one).sum(), at, create_graph=True)[0] * one).sum()
            for one in directions
        ]
        bend = torch.stack(curved).sum() / (1 if probes is None else len(probes))
    return (0.5 * slope.square().sum() - bend) / len(point)


def noise_contrast(
    data_log_ratio: Float[Tensor, " B"], noise_log_ratio: Float[Tensor, " N"]
) -> Float[Tensor, ""]:
    """Returns the logistic loss of telling data from noise (Gutmann and Hyvarinen 2010).

    At its minimum over all functions, the ratio is that of the two densities.

    Args:
        data_log_ratio: `log p - log q` of data, with `log p = -E - log Z`.
        noise_log_ratio: the same of samples of q, of any number.
    """
    share = len(noise_log_ratio) / len(data_log_ratio)
    is_data = F.softplus(math.log(share) - data_log_ratio).mean()
    return is_data + share * F.softplus(noise_log_ratio - math.log(share)).mean()


def flipped(state: Float[Tensor, "B D"], sites: Int[Tensor, "B K"]) -> Float[Tensor, "B K D"]:
    """Returns each row once for each of its sites, with the bit there flipped."""
    rows = state[:, None].expand(-1, sites.shape[1], -1)
    place = sites[..., None]
    return rows.scatter(2, place, 1 - rows.gather(2, place))


def some_sites(state: Float[Tensor, "B *D"], number: int) -> Int[Tensor, "B K"]:
    """Returns different sites of each row, all if there are no more, by torch's global generator."""
    size = state[0].numel()
    if number >= size:
        return torch.arange(size, device=state.device).expand(len(state), -1)
    return torch.rand(len(state), size, device=state.device).topk(number, dim=1).indices


def bit_strings(length: int) -> Float[Tensor, "N D"]:
    """Returns all strings of so many bits, in the order of counting."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=length)))


def _energies(energy: Energy, flat: Float[Tensor, "B K D"], like: Tensor) -> Float[Tensor, "B K"]:
    """Returns the energies of states that are laid out flat, `K` for each row."""
    batch, number = flat.shape[:2]
    return energy(flat.flatten(0, 1).unflatten(1, like.shape[1:])).unflatten(0, (batch, number))
