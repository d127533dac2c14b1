"""The masked auto-encoder (He et al. 2022): a few patches are read, the others are told from them."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldmodel.nn import BinaryCrossEntropy, FrameCost, cropped, features_of, stride_of, unshuffle
from worldmodel.nn.vit import attention_blocks, positions, read_cells
from worldmodel.ssl.clip import FrameClip
from worldmodel.ssl.corrupt import random_subset
from worldmodel.ssl.latent import filled
from worldmodel.ssl.objective import Frames, Losses, Objective


class MaskedAutoEncoder(Objective):
    """Most cells of each frame are hidden; the cost looks at these alone.

    The encoder works on the visible cells only (`worldmodel.nn.PatchTransformer`; one that convolves is shown
    black patches instead). A smaller transformer, thrown away afterwards, puts a learnt token in place of
    each hidden cell and gives the pixels back.

    Args:
        ratio: of cells hidden.
        width: of the decoder, a multiple of four and of the heads.
        depth: of the decoder.
        heads: of its attention.
        cost: None: binary cross-entropy.
    """

    filler: "Filler"

    def __init__(
        self,
        *,
        ratio: float = 0.75,
        width: int = 32,
        depth: int = 1,
        heads: int = 4,
        cost: FrameCost | None = None,
    ) -> None:
        super().__init__()
        self.ratio, self.width, self.depth, self.heads = ratio, width, depth, heads
        self.cost = BinaryCrossEntropy() if cost is None else cost

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        self.filler = Filler(encoder, width=self.width, depth=self.depth, heads=self.heads)
        rows, columns = self.filler.cell
        pixels = self.cost.outputs(clip.frames.shape[2]) * rows * columns
        self.pixels = nn.Sequential(nn.LayerNorm(self.width), nn.Linear(self.width, pixels))

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        frame = clip.frames.flatten(0, 1)
        hidden = self.hidden(frame)
        output = self.decoded(encoder, frame, hidden)
        return {"loss": self.cost(output, frame, cropped(self.mask(hidden, frame), frame))}

    @torch.no_grad()
    def pictures(self, encoder: nn.Module, clip: FrameClip) -> Frames:
        """Returns frames whole, with black holes, and filled."""
        frame = clip.frames.flatten(0, 1)
        hidden = self.hidden(frame)
        mask = cropped(self.mask(hidden, frame), frame)
        told = self.cost.value(self.decoded(encoder, frame, hidden))
        given = torch.lerp(frame, told, mask.expand_as(frame))
        return {"truth": frame, "seen": frame * (1 - mask), "given back": given}

    def hidden(self, frame: Float[Tensor, "B C H W"]) -> Bool[Tensor, "B N"]:
        """Draws the cells to be hidden, equally many of each frame."""
        return self.filler.hide(frame, ratio=self.ratio)

    def decoded(
        self, encoder: nn.Module, frame: Float[Tensor, "B C H W"], hidden: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B O H W"]:
        """Returns the decoder's outputs for frames of which some cells are hidden."""
        outputs = self.pixels(self.filler(encoder, frame, hidden))
        return cropped(unshuffle(outputs.mT.unflatten(2, self.filler.grid(frame)), self.filler.cell), frame)

    def mask(self, hidden: Bool[Tensor, "B N"], frame: Float[Tensor, "B C H W"]) -> Tensor:
        """Returns hidden cells as pixels, `(B, 1, H2, W2)`: one where hidden."""
        cells = hidden.to(frame).unflatten(1, self.filler.grid(frame))[:, None]
        return cells.repeat_interleave(self.filler.cell[0], 2).repeat_interleave(self.filler.cell[1], 3)


class Filler(nn.Module):
    """A transformer that reads the visible cells of frames and fills in what the hidden ones may be.

    Args:
        encoder: of the frames.
        width: of the tokens, a multiple of four and of the heads.
        depth: blocks.
        heads: of their attention.
    """

    def __init__(self, encoder: nn.Module, *, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.width, self.cell = width, stride_of(encoder)
        self.narrow = nn.Linear(features_of(encoder), width)
        self.token = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = attention_blocks(width, depth=depth, heads=heads)

    def forward(
        self, encoder: nn.Module, frame: Float[Tensor, "B C H W"], hidden: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B N D"]:
        """Returns a token for each cell, hidden or not; the encoder sees nothing of the hidden ones."""
        grid = self.grid(frame)
        num_seen = int((~hidden[0]).sum())
        cells = hidden.int().argsort(dim=1, stable=True)[:, :num_seen]
        codes = self.narrow(read_cells(encoder, filled(frame, self.cell), cells, stride=self.cell))
        tokens = self.token.expand(*hidden.shape, -1).to(codes)
        tokens = tokens.scatter(1, cells[..., None].expand(-1, -1, self.width), codes)
        return self.blocks(tokens + positions(grid, self.width).to(codes))

    def hide(self, frame: Float[Tensor, "B C H W"], *, ratio: float) -> Bool[Tensor, "B N"]:
        """Draws the cells to be hidden, equally many of each frame."""
        rows, columns = self.grid(frame)
        return random_subset(frame.shape[0], rows * columns, ratio, device=frame.device)

    def grid(self, frame: Float[Tensor, "B C H W"]) -> tuple[int, int]:
        """Returns rows and columns of cells."""
        return -(-frame.shape[-2] // self.cell[0]), -(-frame.shape[-1] // self.cell[1])
