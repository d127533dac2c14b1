"""Energies of frames: low where there is data, pushed up elsewhere by one of many ways.

    E(y) = head(Enc(y)),        p(y) = exp(-E(y)) / Z

All the systems of this family are one objective, `Density`; they differ in the plug-in that pushes up. The
plug-ins see a module from rows to energies and the rows, so that they work for any energy on any space.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import Configured, MapDecoder, cropped, encode, features_of, gather, stride_of
from worldmodel.ssl.clip import FrameClip
from worldmodel.ssl.objective import Losses, Objective


class PushUp(Configured):
    """Energy and data -> the loss of the energy; it owns what else it needs: chains, noise, a generator."""

    def attach(self, data: Float[Tensor, "B *D"]) -> None:
        """Makes what depends on the size of a row. Called once, with blank rows."""

    def forward(self, energy: nn.Module, data: Float[Tensor, "B *D"]) -> Losses:
        """Returns the losses; differentiable in the parameters of the energy and its own."""
        raise NotImplementedError

    def refit(self, data: Float[Tensor, "B *D"]) -> None:
        """Does what needs more than a batch."""


class Density(Objective):
    """An energy-based model of single frames.

    Args:
        head: the encoder's map and the frame -> energy; an `EnergyHead` when left out.
        push_up: what keeps the energy from being low everywhere.
    """

    def __init__(self, push_up: PushUp, *, head: Configured | None = None) -> None:
        super().__init__()
        self.push_up = push_up
        self.head = EnergyHead() if head is None else head

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        frame = clip.frames.flatten(0, 1)
        self.head.attach(encoder, frame)  # type: ignore[operator]
        self.push_up.attach(frame)

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        return self.push_up(self.energy(encoder), clip.frames.flatten(0, 1))

    def refit(self, encoder: nn.Module, clips: Iterable[FrameClip]) -> None:
        self.push_up.refit(gather(torch.cat([clip.frames.flatten(0, 1) for clip in clips])))

    def energy(self, encoder: nn.Module) -> nn.Module:
        """Returns the energy of frames as one module."""
        return FrameEnergy(encoder, self.head)


class FrameEnergy(nn.Module):
    """Frames -> energy of each, through the encoder's map."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        return self.head(encode(self.encoder, frame), frame)

    def code(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B Z"]:
        """Returns the encoder's map, as a vector."""
        return encode(self.encoder, frame).flatten(1)


class EnergyHead(Configured):
    """A hidden layer over the whole map, every cell with its own weights: where something is matters.

    Args:
        width: of the hidden layer.
    """

    def __init__(self, *, width: int = 32) -> None:
        super().__init__()
        self.width = width

    def attach(self, encoder: nn.Module, frame: Float[Tensor, "B C H W"]) -> None:
        """Makes the layers."""
        size = encode(encoder, frame)[0].numel()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(size, self.width), nn.SiLU(), nn.Linear(self.width, 1)
        )

    def forward(
        self, cells: Float[Tensor, "B F H2 W2"], frame: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, " B"]:
        return self.layers(cells).squeeze(-1)


class ReconstructionEnergy(Configured):
    """The mean squared error of giving the frame back: an auto-encoder as energy (Zhao et al. 2017).

    Args:
        width: of the decoder's hidden layer.
    """

    decoder: MapDecoder

    def __init__(self, *, width: int = 32) -> None:
        super().__init__()
        self.width = width

    def attach(self, encoder: nn.Module, frame: Float[Tensor, "B C H W"]) -> None:
        """Makes the decoder."""
        self.decoder = MapDecoder(features_of(encoder), frame.shape[1], stride_of(encoder), width=self.width)

    def forward(
        self, cells: Float[Tensor, "B F H2 W2"], frame: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, " B"]:
        return (cropped(self.decoder(cells), frame) - frame).square().flatten(1).mean(1)
