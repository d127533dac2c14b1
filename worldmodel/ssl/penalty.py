"""Penalties `R(z)` of codes, with their proximal maps: what keeps an energy from being low everywhere.

Codes are `(B, Z)` or maps `(B, Z, H, W)`; a penalty is a number for each row or cell.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from worldmodel.nn import Configured
from worldmodel.nn.sparse import group_shrink, pool_norms, pool_shrink, soft_threshold, torus_pools


class Penalty(Configured):
    """No penalty at all, and what every other one has to offer."""

    def forward(self, code: Float[Tensor, "B Z *C"]) -> Float[Tensor, "B *C"]:
        """Returns the penalty of each code."""
        return torch.zeros_like(code[:, 0])

    def shrink(
        self, value: Float[Tensor, "B Z *C"], before: Float[Tensor, "B Z *C"], step: Tensor
    ) -> Float[Tensor, "B Z *C"]:
        """Returns the proximal map of `step R` at `value`; `before` is the code that led there.

        A step of zero leaves what is allowed as it is.
        """
        return value


class L1(Penalty):
    """`weight sum_i |z_i|`: few entries are not zero."""

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, code: Float[Tensor, "B Z *C"]) -> Float[Tensor, "B *C"]:
        return self.weight * code.abs().sum(1)

    def shrink(
        self, value: Float[Tensor, "B Z *C"], before: Float[Tensor, "B Z *C"], step: Tensor
    ) -> Float[Tensor, "B Z *C"]:
        return soft_threshold(value, self.weight * step)


class NonNegative(Penalty):
    """`weight sum_i z_i`, and no entry below zero: parts are there or not, and never cancel out."""

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, code: Float[Tensor, "B Z *C"]) -> Float[Tensor, "B *C"]:
        return self.weight * code.sum(1)

    def shrink(
        self, value: Float[Tensor, "B Z *C"], before: Float[Tensor, "B Z *C"], step: Tensor
    ) -> Float[Tensor, "B Z *C"]:
        return (value - self.weight * step).clamp_min(0)


class Group(Penalty):
    """`weight sum_g |z_g|_2` over groups of `size` units in a row: few groups, all of each."""

    def __init__(self, weight: float = 0.1, *, size: int = 4) -> None:
        super().__init__()
        self.weight, self.size = weight, size

    def forward(self, code: Float[Tensor, "B Z *C"]) -> Float[Tensor, "B *C"]:
        return self.weight * torch.linalg.vector_norm(code.unflatten(1, (-1, self.size)), dim=2).sum(1)

    def shrink(
        self, value: Float[Tensor, "B Z *C"], before: Float[Tensor, "B Z *C"], step: Tensor
    ) -> Float[Tensor, "B Z *C"]:
        return group_shrink(value, self.size, self.weight * step)


class Topographic(Penalty):
    """`weight sum_p |z_p|_2` over overlapping square pools on a sheet whose edges meet (Kavukcuoglu 2009).

    Units that are active together come to lie side by side.

    Args:
        rows: of the sheet.
        columns: of the sheet; the code has `rows * columns` units.
        side: of a pool.
        floor: activity below which a pool's norm is rounded off.
    """

    pools: Tensor

    def __init__(
        self, rows: int, columns: int, *, weight: float = 0.05, side: int = 3, floor: float = 0.03
    ) -> None:
        super().__init__()
        self.weight, self.floor = weight, floor
        self.register_buffer("pools", torus_pools(rows, columns, side=side), persistent=False)

    def forward(self, code: Float[Tensor, "B Z *C"]) -> Float[Tensor, "B *C"]:
        return self.weight * pool_norms(code, self.pools, floor=self.floor).sum(1)

    def shrink(
        self, value: Float[Tensor, "B Z *C"], before: Float[Tensor, "B Z *C"], step: Tensor
    ) -> Float[Tensor, "B Z *C"]:
        return pool_shrink(value, before, self.pools, threshold=self.weight * step, floor=self.floor)


class Ball(Penalty):
    """No code longer than `radius`, at no price."""

    def __init__(self, radius: float = 1.0) -> None:
        super().__init__()
        self.radius = radius

    def shrink(
        self, value: Float[Tensor, "B Z *C"], before: Float[Tensor, "B Z *C"], step: Tensor
    ) -> Float[Tensor, "B Z *C"]:
        length = torch.linalg.vector_norm(value, dim=1, keepdim=True)
        return value * (self.radius / length.clamp_min(self.radius))


class LogEnergy(Penalty):
    """`weight sum_p log(floor + sum_(i in p) z_i^2) / 2` over square pools on a sheet whose edges meet.

    Of orthonormal filters of white rows, with pools of one (`side=1`): independent components (square ICA);
    with larger ones: topographic ICA (Hyvarinen and Hoyer 2001).
    """

    pools: Tensor

    def __init__(
        self, rows: int, columns: int, *, weight: float = 1.0, side: int = 3, floor: float = 0.1
    ) -> None:
        super().__init__()
        self.weight, self.floor = weight, floor
        self.register_buffer("pools", torus_pools(rows, columns, side=side), persistent=False)

    def forward(self, code: Float[Tensor, "B Z *C"]) -> Float[Tensor, "B *C"]:
        return self.weight * pool_norms(code, self.pools, floor=self.floor**0.5).log().sum(1)


class Neighbourhood(Penalty):
    """`weight sum_p |z_p|_2` over squares of `side` cells of a map, all their units together."""

    def __init__(self, weight: float = 0.05, *, side: int = 3, floor: float = 0.03) -> None:
        super().__init__()
        self.weight, self.side, self.floor = weight, side, floor

    def forward(self, code: Float[Tensor, "B Z H W"]) -> Float[Tensor, "B H W"]:
        return self.weight * self._norms(code)[:, 0]

    def shrink(
        self, value: Float[Tensor, "B Z H W"], before: Float[Tensor, "B Z H W"], step: Tensor
    ) -> Float[Tensor, "B Z H W"]:
        return value / (1 + self.weight * step * self._spread(1 / self._norms(before)))

    def _norms(self, code: Tensor) -> Tensor:
        return (self._spread(code.square().sum(1, keepdim=True)) + self.floor**2).sqrt()

    def _spread(self, cells: Tensor) -> Tensor:
        area = self.side**2
        return area * F.avg_pool2d(cells, self.side, stride=1, padding=self.side // 2)
