"""What is ahead: the cells of a map look along their columns, until something blocks the view."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn.configured import Configured

SCALE = 10.0
"""Cells that a distance of one stands for."""


class LookAhead(Configured):
    """Adds to each cell what it sees in the first cells ahead that are not transparent.

    Roads run along the columns of a map, so who is ahead is in the same column, however far. A cell in row
    `r` casts a ray upwards, as volume rendering does (Mildenhall et al. 2020, eq. 3), with opacities `o` that
    are learnt from the cells themselves:

        w[r, k] = o[k] prod_{k < j < r - 1} (1 - o[j]),
        seen[r] = sum_{k < r - 1} w[r, k] (value[k], 1, d, 1 / (1 + d)),    d = (r - k) / 10.

    The cell just ahead is left out: a car covers two. Zero at birth, so that nothing is added.

    Args:
        channels: of the map.
        width: channels of the values that are looked at.
    """

    def __init__(self, channels: int, *, width: int = 16) -> None:
        super().__init__()
        self.opacity = nn.Conv2d(channels, 1, 1)
        self.value = nn.Conv2d(channels, width, 1)
        self.mix = nn.Conv2d(channels + width + 3, channels, 1)
        self.leave = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, h: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Returns the map, each cell knowing who is ahead; the first row is the farthest."""
        columns = h.permute(0, 3, 2, 1).contiguous()  # (B, W, H, C)
        weight = first_seen(_of_cells(self.opacity, columns).squeeze(-1).sigmoid())
        rows = torch.arange(h.shape[2], device=h.device)
        distance = (rows[:, None] - rows).to(h.dtype).clamp_min(0) / SCALE
        aspects = torch.stack([torch.ones_like(distance), distance, 1 / (1 + distance)])
        about = torch.einsum("bwrk,ark->bwra", weight, aspects)
        known = torch.cat([columns, weight @ _of_cells(self.value, columns), about], dim=-1)
        return h + _of_cells(self.leave, F.silu(_of_cells(self.mix, known))).permute(0, 3, 2, 1)


def first_seen(opacity: Float[Tensor, "*B H"]) -> Float[Tensor, "*B H H"]:
    """Returns how much of what row `r` sees upwards is row `k`: opaque itself, and everything between clear.

    Rows of the result sum to at most 1; row `r - 1` is not looked at.
    """
    clear = torch.log1p(-opacity.clamp(max=1 - 1e-4)).cumsum(-1)  # of all rows up to k
    upto = F.pad(clear, (2, 0))[..., : opacity.shape[-1]]  # of all rows up to r - 2
    between = upto.unsqueeze(-1) - clear.unsqueeze(-2)
    # Cut off afterwards, and at e^-30: exponentials of minus infinity and denormal numbers are slow.
    return between.clamp(-30, 0).exp().tril(-2) * opacity.unsqueeze(-2)


def _of_cells(layer: nn.Conv2d, cells: Float[Tensor, "*B C"]) -> Float[Tensor, "*B D"]:
    """Applies a convolution of single cells where channels come last: one product of matrices."""
    return F.linear(cells, layer.weight.flatten(1), layer.bias)
