"""Several layers of convolutional codes, inferred together: each is explained by the one above it."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import cropped, encode, features_of, stride_of
from worldmodel.nn.sparse import soft_threshold
from worldmodel.ssl.clip import FrameClip
from worldmodel.ssl.dictionary import ConvDictionary
from worldmodel.ssl.head import LinearHead
from worldmodel.ssl.latent import filled
from worldmodel.ssl.objective import Frames, Losses, Objective


class Multilayer(Objective):
    """`sum_l 1/2 |z_(l-1) - W_l * z_l|^2 + weight_l |z_l|_1`, where `z_(-1)` is the frame.

    Kernels have norm one, so that no layer can become small to be cheap. The encoder learns to guess the
    codes of the first layer.

    Args:
        atoms: kernels of each layer, the lowest first.
        weights: of the L1 norm of each layer.
        reach: pixels that the lowest kernels reach beyond their cell on each side; those above, one cell.
        num_steps: of inference, each a step of shrinkage on every layer in turn.
        samples: frames of a batch that are coded.
    """

    def __init__(
        self,
        atoms: Sequence[int] = (32, 32, 32),
        *,
        weights: Sequence[float] = (0.1, 0.05, 0.03),
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

    def energies(
        self, frame: Float[Tensor, "B C H W"], codes: Sequence[Float[Tensor, "B Z H2 W2"]]
    ) -> list[Float[Tensor, ""]]:
        """Returns each layer's part of the energy, of a cell on average."""
        below = [frame, *codes[:-1]]
        number = codes[0][:, 0].numel()
        return [
            (0.5 * (layer(code) - under).square().sum() + weight * code.abs().sum()) / number
            for layer, code, under, weight in zip(
                self.layers.dictionaries(), codes, below, self.weights, strict=True
            )
        ]

    @torch.no_grad()
    def infer(
        self, frame: Float[Tensor, "B C H W"], *, num_steps: int | None = None
    ) -> list[Float[Tensor, "B Z H2 W2"]]:
        """Returns the codes of all layers; the energy falls at every step."""
        layers = self.layers.dictionaries()
        codes: list[Tensor] = []
        for layer in layers:  # zeros, of the shapes that codes have
            codes.append(torch.zeros_like(layer.adjoint(codes[-1] if codes else frame)))
        # a layer is drawn to what the one above says of it, with curvature one; nothing is above the last
        bounds = [layer.bound() + (layer is not layers[-1]) for layer in layers]
        for _ in range(self.num_steps if num_steps is None else num_steps):
            for index, (layer, bound, weight) in enumerate(zip(layers, bounds, self.weights, strict=True)):
                under = codes[index - 1] if index else frame
                gradient = layer.adjoint(layer(codes[index]) - under)
                if index + 1 < len(layers):
                    gradient = gradient + codes[index] - layers[index + 1](codes[index + 1])
                codes[index] = soft_threshold(codes[index] - gradient / bound, weight / bound)
        return codes

    def decode(self, code: Float[Tensor, "B Z H W"], *, layer: int) -> Float[Tensor, "B C H2 W2"]:
        """Returns what the codes of one layer alone say of the frame."""
        for one in reversed(self.layers.dictionaries()[: layer + 1]):
            code = one(code)
        return code

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        frames = sampled(clip, self.samples)
        target = filled(frames, stride_of(encoder))
        codes = self.infer(target)
        distance = off_by(self.head(encode(encoder, frames)), codes[0])
        parts = self.energies(target, codes)
        named = {f"layer{index}": part for index, part in enumerate(parts)}
        return {"loss": torch.stack(parts).sum() + distance, "distance": distance, **named}

    @torch.no_grad()
    def pictures(self, encoder: nn.Module, clip: FrameClip) -> Frames:
        """Returns frames, and what the codes of each layer say of them."""
        frame = clip.frames.flatten(0, 1)
        codes = self.infer(filled(frame, stride_of(encoder)))
        told = {f"layer {i}": cropped(self.decode(code, layer=i), frame) for i, code in enumerate(codes)}
        return {"truth": frame, **told}

    def after_step(self, encoder: nn.Module) -> None:
        self.layers.normalise()


class ConvStack(nn.ModuleList):
    """Convolutional dictionaries, each of the codes of the one below it.

    Args:
        atoms: kernels of each layer, the lowest first.
        reach: pixels that the lowest kernels reach beyond their cell on each side; those above, one cell.
    """

    def __init__(self, atoms: Sequence[int], *, reach: Sequence[int]) -> None:
        reaches = [reach, *[(1, 1)] * (len(atoms) - 1)]
        super().__init__(
            ConvDictionary(number, reach=far) for number, far in zip(atoms, reaches, strict=True)
        )

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        """Makes the kernels."""
        along, across = stride_of(encoder)
        channels, rows, columns = filled(clip.frames[0], (along, across)).shape[1:]
        stride = (along, across)
        for layer in self.dictionaries():
            layer.attach(channels, stride, (rows // along, columns // across))
            channels, stride = layer.atoms, (1, 1)

    def dictionaries(self) -> list[ConvDictionary]:
        """Returns the layers, the lowest first."""
        return [one for one in self if isinstance(one, ConvDictionary)]

    def normalise(self) -> None:
        """Makes the kernels again what they may be, after a step of the optimiser."""
        for layer in self.dictionaries():
            layer.normalise()


def one_each(weights: Sequence[float], atoms: Sequence[int]) -> list[float]:
    """Returns the weights, one for each layer.

    Raises:
        ValueError: there are more of them, or fewer.
    """
    if len(atoms) != len(weights):
        raise ValueError(f"{len(atoms)} layers of atoms, but {len(weights)} weights; give each layer one")
    return [float(one) for one in weights]


def sampled(clip: FrameClip, number: int) -> Float[Tensor, "B C H W"]:
    """Returns so many frames of a batch, drawn at random."""
    frames = clip.frames.flatten(0, 1)
    return frames[torch.randperm(len(frames), device=frames.device)[:number]]


def off_by(guess: Float[Tensor, "B Z H W"], code: Float[Tensor, "B Z H W"]) -> Float[Tensor, ""]:
    """Returns `1/2 |z - z'|^2`, of a cell on average."""
    return 0.5 * (guess - code).square().sum() / guess[:, 0].numel()
