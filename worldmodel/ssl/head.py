"""Heads that guess codes from an encoder's map: `z' = Head(Enc(y))`. Both are `(B, F or Z, ...)`."""

from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import Configured
from worldmodel.nn.lista import LISTA


class Head(Configured):
    """Features -> guess of the code."""

    def attach(self, features: int, atoms: int) -> None:
        """Makes the parameters."""
        raise NotImplementedError

    def forward(self, features: Float[Tensor, "B F *C"]) -> Float[Tensor, "B Z *C"]:
        raise NotImplementedError


class LinearHead(Head):
    """One linear map, the same for every cell."""

    def attach(self, features: int, atoms: int) -> None:
        self.layer = nn.Linear(features, atoms)

    def forward(self, features: Float[Tensor, "B F *C"]) -> Float[Tensor, "B Z *C"]:
        return self.layer(features.movedim(1, -1)).movedim(-1, 1)


class LISTAHead(Head):
    """Shrinkage, a few times, with learnt matrices (`worldmodel.nn.lista`): units explain each other away.

    Args:
        num_steps: passes through the matrix between the units.
    """

    def __init__(self, num_steps: int = 3) -> None:
        super().__init__()
        self.num_steps = num_steps

    def attach(self, features: int, atoms: int) -> None:
        self.net = LISTA(features, atoms, num_steps=self.num_steps)

    def forward(self, features: Float[Tensor, "B F *C"]) -> Float[Tensor, "B Z *C"]:
        return self.net(features.movedim(1, -1)).movedim(-1, 1)
