"""Modules of self-supervision one upon the other: each turns a sequence into states and latents for the next.

    h_n = Enc(c_n),   z_n = Inf(c_n, h_{n-1}),   c_n ~ Dec(Pred(h_{n-1}), z_n)

for pieces `c_n` of `span` steps. A level reads the `(h, z)` of the one below, in longer pieces, so that its
steps are longer and what is small and short-lived is left behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import encode
from worldmodel.ssl.clip import FrameClip
from worldmodel.ssl.objective import Losses, Objective


@dataclass(frozen=True)
class Codes:
    """What a level makes of a sequence: states of its pieces, and latents of all but the first."""

    hidden: Float[Tensor, "B N H"]
    latent: Float[Tensor, "B N1 Z"]

    @property
    def sequence(self) -> Float[Tensor, "B N1 D"]:
        """What the next level reads: each state beside the latent that led to it."""
        return torch.cat([self.hidden[:, 1:], self.latent], dim=-1)


class Level(nn.Module):
    """One module of the stack.

    Args:
        seen: size of a step that is read.
        told: size of a step that is predicted.
        span: steps in a piece.
        hidden: size of a state.
        latent: size of a latent.
        width: of the hidden layers.
    """

    def __init__(self, seen: int, told: int, *, span: int, hidden: int, latent: int, width: int = 64) -> None:
        super().__init__()
        self.span, self.latent = span, latent
        self.encoder = _layers(span * seen, width, hidden)
        self.inference = _layers(span * seen + hidden, width, latent)
        self.predictor = _layers(hidden, width, hidden)
        self.decoder = _layers(hidden + latent, width, span * told)

    def codes(self, seen: Float[Tensor, "B T D"]) -> Codes:
        """Returns states and latents of a sequence; steps that fill no piece are left out."""
        pieces = self.pieces(seen)
        hidden = self.encoder(pieces)
        return Codes(hidden, self.inference(torch.cat([pieces[:, 1:], hidden[:, :-1]], dim=-1)))

    def explain(
        self, hidden: Float[Tensor, "B N H"], latent: Float[Tensor, "B N Z"]
    ) -> Float[Tensor, "B N S"]:
        """Returns the pieces that follow states, given the latents."""
        return self.decoder(torch.cat([self.advance(hidden), latent], dim=-1))

    def foresee(self, hidden: Float[Tensor, "B N H"], num_steps: int) -> Float[Tensor, "B N S"]:
        """Returns the piece `num_steps` pieces after each state, all latents zero."""
        for _ in range(num_steps - 1):
            hidden = self.advance(hidden)
        return self.explain(hidden, hidden.new_zeros(*hidden.shape[:2], self.latent))

    def advance(self, hidden: Float[Tensor, "B N H"]) -> Float[Tensor, "B N H"]:
        """Returns the states one piece later, as far as they can be known."""
        return hidden + self.predictor(hidden)

    def pieces(self, steps: Float[Tensor, "B T D"]) -> Float[Tensor, "B N S"]:
        """Returns a sequence in pieces."""
        number = steps.shape[1] // self.span
        return steps[:, : number * self.span].unflatten(1, (number, self.span)).flatten(2)

    def forward(
        self, seen: Float[Tensor, "B T D"], told: Float[Tensor, "B T E"], *, horizon: int, price: float
    ) -> tuple[Codes, Losses]:
        """Returns the codes and the errors of explaining, and of foreseeing up to `horizon` pieces.

        Args:
            price: of the latents' mean square, which are blurred by noise of size one while training.
        """
        codes, wanted = self.codes(seen), self.pieces(told)
        blur = torch.randn_like(codes.latent) if self.training else torch.zeros_like(codes.latent)
        explained = self.explain(codes.hidden[:, :-1], codes.latent + blur) - wanted[:, 1:]
        ahead = [
            (self.foresee(codes.hidden[:, :-step], step) - wanted[:, step:]).square().mean()
            for step in range(1, min(horizon, wanted.shape[1] - 1) + 1)
        ]
        error, foreseen = explained.square().mean(), torch.stack(ahead).mean()
        loss = error + foreseen + price * codes.latent.square().mean()
        return codes, {"loss": loss, "explained": error, "foreseen": foreseen}


class Stacked(Objective):
    """Levels on the frames of a clip, each on what the one below has made of it; all learn at once.

    Only the first moves the encoder: a level takes the codes below as they are, so that none is made easy to
    predict by saying nothing.

    Args:
        spans: of each level's pieces, in steps of the level below; a clip must have two pieces of the last.
        hidden: size of a state.
        latent: size of a latent.
        horizon: pieces ahead that are foreseen without latents.
        price: of the latents' mean square.

    Raises:
        ValueError: the clips are too short for the last level.
    """

    def __init__(
        self,
        *,
        spans: Sequence[int] = (1, 1),
        hidden: int = 32,
        latent: int = 4,
        horizon: int = 2,
        price: float = 1e-3,
    ) -> None:
        super().__init__()
        self.spans = tuple(int(span) for span in spans)
        self.hidden, self.latent, self.horizon, self.price = hidden, latent, horizon, price

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        cells = encode(encoder, clip.frames[:, 0])
        self.build(cells[0].numel(), clip.frames[0, 0].numel(), clip.frames.shape[1])

    def build(self, seen: int, told: int, num_steps: int) -> None:
        """Makes the levels for sequences of so many steps, of given sizes."""
        levels = []
        for span in self.spans:
            if num_steps // span < 2:
                raise ValueError(
                    f"{num_steps} steps make no two pieces of {span}; lengthen the clip or lower the spans"
                )
            levels.append(Level(seen, told, span=span, hidden=self.hidden, latent=self.latent))
            num_steps, seen = num_steps // span - 1, self.hidden + self.latent
            told = seen
        self.levels = nn.ModuleList(levels)

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        batch, num_frames = clip.frames.shape[:2]
        cells = encode(encoder, clip.frames.flatten(0, 1)).flatten(1)
        return self.losses(cells.unflatten(0, (batch, num_frames)), clip.frames.flatten(2))

    def losses(self, seen: Float[Tensor, "B T D"], told: Float[Tensor, "B T E"]) -> Losses:
        """Returns the losses of sequences: all levels' sum, and each level's parts."""
        parts: Losses = {}
        for index, level in enumerate(self.levels):
            codes, found = level(seen, told, horizon=self.horizon, price=self.price)
            parts |= {f"level{index + 1}/{name}": value for name, value in found.items()}
            seen = told = codes.sequence.detach()
        total = torch.stack([value for name, value in parts.items() if name.endswith("/loss")]).sum()
        return {"loss": total} | parts


def _layers(into: int, width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(into, width), nn.SiLU(), nn.Linear(width, out))
