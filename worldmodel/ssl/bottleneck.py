"""Bottlenecks: what of a map the decoder may read. `cells -> (cells, scalar to be added to the loss)`."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import LOG_VAR_MAX, LOG_VAR_MIN, Configured, gaussian_kl, reparametrised
from worldmodel.nn.sparse import soft_threshold


class FeatureShare(Configured):
    """A bottleneck through which only a share of the features passes: one half of a split brain, say.

    Args:
        index: which share.
        of: how many there are.
    """

    def __init__(self, *, index: int = 0, of: int = 2) -> None:
        super().__init__()
        self.index, self.of = index, of

    def forward(self, cells: Float[Tensor, "B F H W"]) -> tuple[Float[Tensor, "B F H W"], Float[Tensor, ""]]:
        """Returns the map with the other features zero, at no cost."""
        share = torch.arange(cells.shape[1], device=cells.device) * self.of // cells.shape[1] == self.index
        return cells * share[:, None, None], cells.new_zeros(())


class GaussianBottleneck(Configured):
    """Every value of the map as the mean of a normal that is drawn from (Kingma and Welling 2013).

        <C(y, Dec(z))>_q + weight KL(q | N(0, I)),        q = N(Enc(y), diag exp(log_var))

    the free energy of a distribution of z: an upper bound of that of all z, equal to it at the posterior.
    The log variance is linear in the map, cell by cell. In eval mode the mean is passed on.

    Args:
        features: of the map.
        weight: of the divergence, its mean over the map's values [nat].
        log_var: that learning begins with.
    """

    def __init__(self, features: int, *, weight: float = 1e-2, log_var: float = -2.0) -> None:
        super().__init__()
        self.weight = weight
        self.log_var = nn.Conv2d(features, features, 1)
        nn.init.zeros_(self.log_var.weight)
        nn.init.constant_(self.log_var.bias, log_var)  # type: ignore[arg-type]

    def forward(self, cells: Float[Tensor, "B F H W"]) -> tuple[Float[Tensor, "B F H W"], Float[Tensor, ""]]:
        """Returns a draw of the map, and what it costs to be told."""
        log_var = self.log_var(cells).clamp(LOG_VAR_MIN, LOG_VAR_MAX)
        read = reparametrised(cells, log_var, torch.randn_like(cells)) if self.training else cells
        kl = gaussian_kl(cells.flatten(1), log_var.flatten(1)) / cells[0].numel()
        return read, self.weight * kl.mean()


class Saturating(Configured):
    """A nonlinearity with flat parts, and how far each value is from them (Goroshin and LeCun 2013).

    Where all values saturate, the code does not move with the frame: it is given back worse, off the data.

    Args:
        nonlinearity: `rectified`: `relu(a)`, and the same is its distance from the flat part below zero;
            `shrunk`: `sign(a) relu(|a| - 1/2)`, at the distance of its size, as in sparse coding;
            `bounded`: a ramp from -1 to 1, flat beyond, `relu(1 - |a|)` away.
        weight: of the mean distance.

    Raises:
        ValueError: another nonlinearity.
    """

    def __init__(self, nonlinearity: str = "rectified", *, weight: float = 1e-2) -> None:
        super().__init__()
        if nonlinearity not in FLAT:
            raise ValueError(f"nonlinearity {nonlinearity!r}; expected one of {sorted(FLAT)}")
        self.nonlinearity, self.weight = nonlinearity, weight

    def forward(self, cells: Float[Tensor, "B F H W"]) -> tuple[Float[Tensor, "B F H W"], Float[Tensor, ""]]:
        """Returns the activations, and their mean distance from where they are flat."""
        read, distance = FLAT[self.nonlinearity](cells)
        return read, self.weight * distance.mean()


def rectified(value: Float[Tensor, "*B"]) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
    """Returns `relu` and its distance from saturation."""
    active = F.relu(value)
    return active, active


def shrunk(value: Float[Tensor, "*B"]) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
    """Returns values shrunk by a half and their distance from saturation."""
    active = soft_threshold(value, 0.5)
    return active, active.abs()


def bounded(value: Float[Tensor, "*B"]) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
    """Returns values kept between -1 and 1 and their distance from saturation."""
    return value.clamp(-1, 1), F.relu(1 - value.abs())


FLAT: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "rectified": rectified,
    "shrunk": shrunk,
    "bounded": bounded,
}
