"""Heads that guess codes from an encoder's map: `z' = Head(Enc(y))`. Both are `(B, F or Z, ...)`."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from worldmodel.nn import Configured, gather
from worldmodel.nn.lista import LISTA
from worldmodel.nn.sparse import soft_threshold


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


class RectifiedHead(Head):
    """`z <- max(0, E x + S z - b)`, a few times: units that excite and inhibit each other.

    Rolfe and LeCun 2013, equation 1.

    Args:
        num_steps: passes through `S`.
    """

    def __init__(self, num_steps: int = 4) -> None:
        super().__init__()
        self.num_steps = num_steps

    def attach(self, features: int, atoms: int) -> None:
        self.drive, self.mix = nn.Linear(features, atoms), nn.Linear(atoms, atoms, bias=False)
        nn.init.zeros_(self.mix.weight)

    def forward(self, features: Float[Tensor, "B F *C"]) -> Float[Tensor, "B Z *C"]:
        drive = self.drive(features.movedim(1, -1))
        code = drive.relu()
        for _ in range(self.num_steps):
            code = (drive + self.mix(code)).relu()
        return code.movedim(-1, 1)


class ConvLISTAHead(Head):
    """LISTA on maps: units also explain away what their neighbours see.

    Args:
        num_steps: passes through the kernels between the units.
        side: of those kernels, in cells; odd.
    """

    def __init__(self, num_steps: int = 3, *, side: int = 3) -> None:
        super().__init__()
        self.num_steps, self.side = num_steps, side

    def attach(self, features: int, atoms: int) -> None:
        around = self.side // 2
        self.drive = nn.Conv2d(features, atoms, self.side, padding=around, bias=False)
        self.mix = nn.Conv2d(atoms, atoms, self.side, padding=around, bias=False)
        self.threshold = nn.Parameter(torch.full((atoms, 1, 1), 0.1))
        nn.init.zeros_(self.mix.weight)

    def forward(self, features: Float[Tensor, "B F H W"]) -> Float[Tensor, "B Z H W"]:
        drive = self.drive(features)
        code = soft_threshold(drive, self.threshold)
        for _ in range(self.num_steps):
            code = soft_threshold(drive + self.mix(code), self.threshold)
        return code


class Labels(Configured):
    """Classes from the mean of a clip's codes, by logistic regression.

    Args:
        classes: how many there are.
        weight: of the cross-entropy.
    """

    def __init__(self, classes: int = 3, *, weight: float = 1.0) -> None:
        super().__init__()
        self.classes, self.weight = classes, weight

    def attach(self, atoms: int) -> None:
        """Makes the parameters."""
        self.layer = nn.Linear(atoms, self.classes)

    def logits(self, code: Float[Tensor, "N Z *C"], number: int) -> Float[Tensor, "B K"]:
        """Returns the classes' logits of `number` clips, from all their codes in order."""
        return self.layer(code.movedim(1, -1).reshape(number, -1, code.shape[1]).mean(1))

    def forward(self, code: Float[Tensor, "N Z *C"], label: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """Returns the weighted cross-entropy of the clips whose label is known; zero if none is."""
        known = label >= 0
        wrong = F.cross_entropy(self.logits(code, len(label))[known], label[known], reduction="sum")
        share = gather(known.to(code.dtype)).mean().clamp_min(1e-6)
        return self.weight * wrong / (len(label) * share)
