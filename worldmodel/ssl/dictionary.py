"""Decoders of codes: dictionaries of patches, of overlapping kernels, of kernels bound to places; networks.

A dictionary says what is decoded (`targets`), which part of an encoder's map belongs to it (`aligned`), and
how (`forward`, its transpose `adjoint`, and `bound`, its greatest squared gain). Codes are `(B, Z, ...)`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import Configured, MapDecoder
from worldmodel.nn.sparse import lipschitz
from worldmodel.nn.sparse_conv import conv_adjoint, conv_bound, conv_decode
from worldmodel.ssl.columns import Columns, Unit
from worldmodel.ssl.prepare import Prepare


class Dictionary(Configured):
    """What every dictionary offers; `adjoint` and `bound` only those that are linear.

    Attributes:
        weight: the atoms, a column each, once attached.
        atoms: how many there are: entries of a code.
    """

    weight: nn.Parameter
    atoms: int
    columns: Columns

    def attach(self, channels: int, stride: tuple[int, int], cells: tuple[int, int]) -> None:
        """Makes the atoms, for frames of so many channels whose map has so many cells."""
        raise NotImplementedError

    def targets(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "N D *S"]:
        """Returns what is decoded; the sides of the frame are multiples of the stride."""
        raise NotImplementedError

    def frames(self, target: Float[Tensor, "N D *S"], size: tuple[int, int]) -> Float[Tensor, "B C H W"]:
        """Returns the frames of so many rows and columns that have such targets."""
        return target

    def aligned(self, cells: Float[Tensor, "B F H W"]) -> Float[Tensor, "N F *S"]:
        """Returns a map of features laid out like codes."""
        raise NotImplementedError

    def forward(self, code: Float[Tensor, "N Z *C"]) -> Float[Tensor, "N D *S"]:
        """Returns what the code stands for."""
        raise NotImplementedError

    def adjoint(self, target: Float[Tensor, "N D *S"]) -> Float[Tensor, "N Z *C"]:
        """Returns the transposed map: how much of each atom there is."""
        raise NotImplementedError

    def bound(self) -> Float[Tensor, ""]:
        """Returns at least the greatest `|forward(z)|^2` of codes of norm one."""
        raise NotImplementedError

    def normalise(self) -> None:
        """Makes the atoms again what they may be, after a step of the optimiser."""
        with torch.no_grad():
            self.weight.copy_(self.columns(self.weight))

    def refit(self, frames: Float[Tensor, "B C H W"]) -> None:
        """Fits what has a closed form to many frames."""


class PatchDictionary(Dictionary):
    """Each cell's patch is coded alone: `y = D z`.

    Args:
        atoms: columns of `D`.
        margin: cells around its own that a patch takes in on each side, along and across.
        columns: what they may be.
        prepare: what is done to patches before.
    """

    def __init__(
        self,
        atoms: int,
        *,
        margin: Sequence[int] = (0, 0),
        columns: Columns | None = None,
        prepare: Prepare | None = None,
    ) -> None:
        super().__init__()
        self.atoms, self.margin = atoms, (int(margin[0]), int(margin[1]))
        self.columns = Unit() if columns is None else columns
        self.prepare = Prepare() if prepare is None else prepare

    def attach(self, channels: int, stride: tuple[int, int], cells: tuple[int, int]) -> None:
        self.stride = stride
        self.padding = (self.margin[0] * stride[0], self.margin[1] * stride[1])
        self.size = (stride[0] + 2 * self.padding[0], stride[1] + 2 * self.padding[1])
        pixels = channels * self.size[0] * self.size[1]
        self.prepare.attach(pixels)
        self.weight = nn.Parameter(self.columns(torch.randn(pixels, self.atoms)))

    def targets(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "N D"]:
        return self.prepare(self._patches(frame))

    def _patches(self, frame: Tensor) -> Float[Tensor, "N D"]:
        return F.unfold(frame, self.size, padding=self.padding, stride=self.stride).mT.flatten(0, 1)

    def frames(self, target: Float[Tensor, "N D"], size: tuple[int, int]) -> Float[Tensor, "B C H W"]:
        """Where patches overlap, their mean."""
        cells = size[0] // self.stride[0] * (size[1] // self.stride[1])
        patches = self.prepare.undo(target).unflatten(0, (-1, cells)).mT  # (B, D, cells)
        lay = {"output_size": size, "kernel_size": self.size, "padding": self.padding, "stride": self.stride}
        return F.fold(patches, **lay) / F.fold(torch.ones_like(patches), **lay)

    def aligned(self, cells: Float[Tensor, "B F H W"]) -> Float[Tensor, "N F"]:
        return cells.permute(0, 2, 3, 1).flatten(0, 2)

    def forward(self, code: Float[Tensor, "N Z"]) -> Float[Tensor, "N D"]:
        return code @ self.weight.T

    def adjoint(self, target: Float[Tensor, "N D"]) -> Float[Tensor, "N Z"]:
        return target @ self.weight

    def bound(self) -> Float[Tensor, ""]:
        return lipschitz(self.weight)

    def refit(self, frames: Float[Tensor, "B C H W"]) -> None:
        with torch.no_grad():
            patches = self._patches(frames)
            self.prepare.refit(patches)
            self.weight.copy_(self.columns.refit(self.weight, self.prepare(patches)))


class ConvDictionary(Dictionary):
    """Kernels at every cell, laid over each other: `Y = sum_k W_k * Z_k`.

    Args:
        atoms: number of kernels.
        reach: pixels that they reach beyond their cell on each side, along and across.
        columns: what the kernels may be, each a column of its pixels.
    """

    def __init__(self, atoms: int, *, reach: Sequence[int] = (4, 2), columns: Columns | None = None) -> None:
        super().__init__()
        self.atoms, self.reach = atoms, (int(reach[0]), int(reach[1]))
        self.columns = Unit() if columns is None else columns

    def attach(self, channels: int, stride: tuple[int, int], cells: tuple[int, int]) -> None:
        self.stride = stride
        self.shape = (self.atoms, channels, stride[0] + 2 * self.reach[0], stride[1] + 2 * self.reach[1])
        pixels = channels * self.shape[2] * self.shape[3]
        self.weight = nn.Parameter(self.columns(torch.randn(pixels, self.atoms)))

    @property
    def kernels(self) -> Float[Tensor, "Z C K L"]:
        """The atoms as pictures."""
        return self.weight.T.reshape(self.shape)

    def targets(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return frame

    def aligned(self, cells: Float[Tensor, "B F H W"]) -> Float[Tensor, "B F H W"]:
        return cells

    def forward(self, code: Float[Tensor, "B Z H W"]) -> Float[Tensor, "B C H2 W2"]:
        return conv_decode(code, self.kernels, stride=self.stride, padding=self.reach)

    def adjoint(self, target: Float[Tensor, "B C H W"]) -> Float[Tensor, "B Z H2 W2"]:
        return conv_adjoint(target, self.kernels, stride=self.stride, padding=self.reach)

    def bound(self) -> Float[Tensor, ""]:
        return conv_bound(self.kernels, stride=self.stride)


class LocalDictionary(Dictionary):
    """Kernels that overlap, but every cell has its own: for views in which a place means something.

    Without shared weights (Gregor and LeCun 2010, arXiv:1006.0448).

    Args:
        atoms: kernels of a cell.
        reach: pixels that they reach beyond their cell on each side, along and across.
        columns: what the kernels may be.
    """

    def __init__(self, atoms: int, *, reach: Sequence[int] = (4, 2), columns: Columns | None = None) -> None:
        super().__init__()
        self.atoms, self.reach = atoms, (int(reach[0]), int(reach[1]))
        self.columns = Unit() if columns is None else columns

    def attach(self, channels: int, stride: tuple[int, int], cells: tuple[int, int]) -> None:
        self.stride, self.cells = stride, cells
        self.size = (stride[0] + 2 * self.reach[0], stride[1] + 2 * self.reach[1])
        pixels = channels * self.size[0] * self.size[1]
        self.weight = nn.Parameter(self.columns(torch.randn(pixels, cells[0] * cells[1] * self.atoms)))

    def targets(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return frame

    def aligned(self, cells: Float[Tensor, "B F H W"]) -> Float[Tensor, "B F H W"]:
        return cells

    def forward(self, code: Float[Tensor, "B Z H W"]) -> Float[Tensor, "B C H2 W2"]:
        patches = torch.einsum("bzl,dlz->bdl", code.flatten(2), self.weight.unflatten(1, (-1, self.atoms)))
        height, width = (count * step for count, step in zip(self.cells, self.stride, strict=True))
        return F.fold(patches, (height, width), self.size, padding=self.reach, stride=self.stride)

    def adjoint(self, target: Float[Tensor, "B C H W"]) -> Float[Tensor, "B Z H2 W2"]:
        patches = F.unfold(target, self.size, padding=self.reach, stride=self.stride)
        code = torch.einsum("bdl,dlz->bzl", patches, self.weight.unflatten(1, (-1, self.atoms)))
        return code.unflatten(2, self.cells)

    def bound(self) -> Float[Tensor, ""]:
        """Returns the greatest gain after 20 steps of the power method, and a tenth more."""
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            code = torch.randn(1, self.atoms, *self.cells, generator=generator).to(self.weight)
            for _ in range(20):
                code = self.adjoint(self(code / code.norm()))
            return 1.1 * code.norm()


class NetworkDictionary(Dictionary):
    """A network from codes to frames (`worldmodel.nn.MapDecoder`); no bound is known of it.

    Args:
        atoms: entries of a cell's code.
        width: channels in between.
    """

    def __init__(self, atoms: int, *, width: int = 32) -> None:
        super().__init__()
        self.atoms, self.width = atoms, width

    def attach(self, channels: int, stride: tuple[int, int], cells: tuple[int, int]) -> None:
        self.decoder = MapDecoder(self.atoms, channels, stride, width=self.width)

    def targets(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return frame

    def aligned(self, cells: Float[Tensor, "B F H W"]) -> Float[Tensor, "B F H W"]:
        return cells

    def forward(self, code: Float[Tensor, "B Z H W"]) -> Float[Tensor, "B C H2 W2"]:
        return self.decoder(code)

    def normalise(self) -> None:
        """Nothing: the codes are what is limited."""
