"""Deconvolutional networks (Zeiler et al. 2011): layers of convolutional codes, pooled with switches.

    E_l = 1/2 |y - W_1 * U_1 W_2 * ... U_(l-1) W_l * z_l|^2 + weight_l |z_l|_1

Every layer explains the frame itself, through those below it. A layer's code is pooled, the greatest of each
square in absolute value; `U`, the way back, puts values at the places they came from: the switches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from worldmodel.nn import cropped, encode, features_of, stride_of
from worldmodel.nn.sparse import accelerate, l1_shrink
from worldmodel.nn.sparse_conv import conv_decode
from worldmodel.ssl.clip import FrameClip
from worldmodel.ssl.head import LinearHead
from worldmodel.ssl.latent import filled
from worldmodel.ssl.multilayer import ConvStack, off_by, one_each, sampled
from worldmodel.ssl.objective import Frames, Losses, Objective


@dataclass(frozen=True)
class Switches:
    """Where the greatest of each square of 2 x 2 cells was.

    Attributes:
        place: number of its cell in the map before pooling, row by row.
        size: of that map.
    """

    place: Int[Tensor, "B Z H2 W2"]
    size: tuple[int, int]

    @classmethod
    def of(cls, code: Float[Tensor, "B Z H W"]) -> "Switches":
        """Returns the switches of a code."""
        _, place = F.max_pool2d(code.abs(), 2, ceil_mode=True, return_indices=True)
        return cls(place, (code.shape[2], code.shape[3]))

    def pool(self, code: Float[Tensor, "B Z H W"]) -> Float[Tensor, "B Z H2 W2"]:
        """Returns the values at the switches."""
        return code.flatten(2).gather(2, self.place.flatten(2)).view(self.place.shape)

    def unpool(self, pooled: Float[Tensor, "B Z H2 W2"]) -> Float[Tensor, "B Z H W"]:
        """Returns values put back where they came from, zero elsewhere: the transpose of `pool`."""
        empty = pooled.new_zeros(*pooled.shape[:2], self.size[0] * self.size[1])
        return empty.scatter(2, self.place.flatten(2), pooled.flatten(2)).unflatten(2, self.size)


class Deconvolutional(Objective):
    """Layers are inferred one after the other, each by FISTA through those below, whose switches stay.

    A layer's kernels learn from its own energy alone, as if it were trained when those below are ready. The
    encoder learns to guess the codes of the first layer.

    Args:
        atoms: kernels of each layer, the lowest first.
        weights: of the L1 norm of each layer.
        reach: pixels that the lowest kernels reach beyond their cell on each side; those above, one cell.
        num_steps: of the inference of each layer.
        samples: frames of a batch that are coded.
    """

    def __init__(
        self,
        atoms: Sequence[int] = (32, 32),
        *,
        weights: Sequence[float] = (0.1, 0.1),
        reach: Sequence[int] = (4, 2),
        num_steps: int = 10,
        samples: int = 32,
    ) -> None:
        super().__init__()
        self.weights = one_each(weights, atoms)
        self.num_steps, self.samples = num_steps, samples
        self.layers = ConvStack(atoms, reach=reach)
        self.head = LinearHead()

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        self.layers.attach(encoder, clip)
        self.head.attach(features_of(encoder), self.layers.dictionaries()[0].atoms)

    def decode(
        self, code: Float[Tensor, "B Z H W"], switches: Sequence[Switches]
    ) -> Float[Tensor, "B C H2 W2"]:
        """Returns what a layer's code says of the frame, by the switches of the layers below it.

        Gradients reach the layer's own kernels, not those below.
        """
        *below, own = self.layers.dictionaries()[: len(switches) + 1]
        found = own(code)
        for layer, back in zip(reversed(below), reversed(switches), strict=True):
            found = conv_decode(
                back.unpool(found), layer.kernels.detach(), stride=layer.stride, padding=layer.reach
            )
        return found

    def adjoint(
        self, frame: Float[Tensor, "B C H W"], switches: Sequence[Switches]
    ) -> Float[Tensor, "B Z H2 W2"]:
        """Returns the transpose of `decode`."""
        *below, own = self.layers.dictionaries()[: len(switches) + 1]
        for layer, back in zip(below, switches, strict=True):
            frame = back.pool(layer.adjoint(frame))
        return own.adjoint(frame)

    @torch.no_grad()
    def infer(
        self, frame: Float[Tensor, "B C H W"], *, num_steps: int | None = None
    ) -> tuple[list[Float[Tensor, "B _ _ _"]], list[Switches]]:
        """Returns the codes of all layers, and the switches of each but the last."""
        codes: list[Tensor] = []
        switches: list[Switches] = []
        bound = frame.new_ones(())
        for layer, weight in zip(self.layers.dictionaries(), self.weights, strict=True):
            if codes:
                switches.append(Switches.of(codes[-1]))
            bound = bound * layer.bound()  # pooling does not add to it
            wrong = partial(self._gradient, frame, tuple(switches))
            start = torch.zeros_like(self.adjoint(frame, switches))
            steps = self.num_steps if num_steps is None else num_steps
            codes.append(accelerate(wrong, l1_shrink(weight), start=start, bound=bound, num_steps=steps))
        return codes, switches

    def energies(
        self,
        frame: Float[Tensor, "B C H W"],
        codes: Sequence[Float[Tensor, "B _ _ _"]],
        switches: Sequence[Switches],
    ) -> list[Float[Tensor, ""]]:
        """Returns each layer's energy, of a cell of the lowest layer on average."""
        number = codes[0][:, 0].numel()
        return [
            (0.5 * (self.decode(code, switches[:index]) - frame).square().sum() + weight * code.abs().sum())
            / number
            for index, (code, weight) in enumerate(zip(codes, self.weights, strict=True))
        ]

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        frames = sampled(clip, self.samples)
        target = filled(frames, stride_of(encoder))
        codes, switches = self.infer(target)
        distance = off_by(self.head(encode(encoder, frames)), codes[0])
        parts = self.energies(target, codes, switches)
        named = {f"layer{index}": part for index, part in enumerate(parts)}
        return {"loss": torch.stack(parts).sum() + distance, "distance": distance, **named}

    @torch.no_grad()
    def pictures(self, encoder: nn.Module, clip: FrameClip) -> Frames:
        """Returns frames, and what the code of each layer says of them."""
        frame = clip.frames.flatten(0, 1)
        codes, switches = self.infer(filled(frame, stride_of(encoder)))
        told = {f"layer {i}": cropped(self.decode(code, switches[:i]), frame) for i, code in enumerate(codes)}
        return {"truth": frame, **told}

    def after_step(self, encoder: nn.Module) -> None:
        self.layers.normalise()

    def _gradient(self, frame: Tensor, switches: tuple[Switches, ...], code: Tensor) -> Tensor:
        return self.adjoint(self.decode(code, switches) - frame, switches)
