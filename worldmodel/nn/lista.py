"""Learnt inference of sparse codes: a few steps of shrinkage, their matrices trained."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn.configured import Configured
from worldmodel.nn.sparse import lipschitz, soft_threshold


class LISTA(Configured):
    """`z <- shrink(W y + S z)`, a few times: ISTA whose matrices are learnt (Gregor and LeCun 2010).

    Args:
        size: of y.
        atoms: of z.
        num_steps: passes through `S`; the first step, from zero, comes before them.

    Example:
        >>> from worldmodel.nn.sparse import ista, unit_columns
        >>> dictionary = unit_columns(torch.randn(8, 12))
        >>> y, net = torch.randn(3, 8), LISTA(8, 12, num_steps=2)
        >>> net.unroll(dictionary, 0.1)
        >>> torch.allclose(net(y), ista(y, dictionary, 0.1, num_steps=3), atol=1e-5)
        True
    """

    def __init__(self, size: int, atoms: int, *, num_steps: int = 3) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.drive = nn.Linear(size, atoms, bias=False)
        self.mix = nn.Linear(atoms, atoms, bias=False)
        self.threshold = nn.Parameter(torch.full((atoms,), 0.1))
        nn.init.zeros_(self.mix.weight)

    def unroll(self, dictionary: Float[Tensor, "D N"], weight: float) -> None:
        """Makes the network the first steps of ISTA: `W = D^T / L`, `S = 1 - D^T D / L`."""
        with torch.no_grad():
            bound = lipschitz(dictionary)
            self.drive.weight.copy_(dictionary.T / bound)
            self.mix.weight.copy_(torch.eye(dictionary.shape[1]) - dictionary.T @ dictionary / bound)
            self.threshold.fill_(weight / bound)

    def forward(self, target: Float[Tensor, "*B D"]) -> Float[Tensor, "*B N"]:
        drive = self.drive(target)
        code = soft_threshold(drive, self.threshold)
        for _ in range(self.num_steps):
            code = soft_threshold(drive + self.mix(code), self.threshold)
        return code
