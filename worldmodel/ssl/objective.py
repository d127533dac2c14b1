"""What a self-supervised objective is, and the sum of several on one encoder."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import Configured
from worldmodel.ssl.clip import FrameClip, blank

Losses: TypeAlias = dict[str, Float[Tensor, ""]]
"""Named scalars; `loss` is what the optimiser lowers, the others are for the log."""

Frames: TypeAlias = dict[str, Float[Tensor, "B C H W"]]
"""Named frames to be looked at side by side: row by row the same scene."""


class Objective(Configured):
    """Encoder and clip -> losses. It owns whatever else learns: heads, queues, dictionaries, a slow copy.

    All of that is in its `state_dict`, made by `attach` before anything is loaded. An objective draws random
    numbers from torch's global generator, which the trainer seeds step by step.
    """

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        """Makes the parts whose sizes depend on the encoder's map. Called once, with a `blank` clip."""

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        """Returns the losses of a batch; differentiable in the encoder's parameters and its own."""
        raise NotImplementedError

    def after_step(self, encoder: nn.Module) -> None:
        """Does what follows each step of the optimiser: slow copies, norms of columns."""

    def refit(self, encoder: nn.Module, clips: Iterable[FrameClip]) -> None:
        """Does what needs more than a batch: clusters, moments. Called before training and now and then."""

    def pictures(self, encoder: nn.Module, clip: FrameClip) -> Frames:
        """Returns frames of a clip and what it makes of them; nothing if it makes no frames."""
        return {}


class Sum(Objective):
    """Several objectives on one encoder.

    Args:
        terms: by the names they are logged under.
        weights: by the same names; one where left out.

    Raises:
        ValueError: a weight without a term.
    """

    def __init__(self, terms: Mapping[str, Objective], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(dict(terms))
        self.weights = {name: 1.0 for name in terms} | dict(weights or {})
        if unknown := self.weights.keys() - terms.keys():
            raise ValueError(f"weights for {sorted(unknown)}, but the terms are {sorted(terms)}")

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        for term in self._objectives().values():
            term.attach(encoder, clip)

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        found = {name: term(encoder, clip) for name, term in self._objectives().items()}
        total = torch.stack([self.weights[name] * losses["loss"] for name, losses in found.items()]).sum()
        return {"loss": total} | {
            f"{name}/{part}": value for name, losses in found.items() for part, value in losses.items()
        }

    def after_step(self, encoder: nn.Module) -> None:
        for term in self._objectives().values():
            term.after_step(encoder)

    def refit(self, encoder: nn.Module, clips: Iterable[FrameClip]) -> None:
        clips = list(clips)
        for term in self._objectives().values():
            term.refit(encoder, clips)

    def pictures(self, encoder: nn.Module, clip: FrameClip) -> Frames:
        return {
            f"{name}/{part}": frames
            for name, term in self._objectives().items()
            for part, frames in term.pictures(encoder, clip).items()
        }

    def _objectives(self) -> dict[str, Objective]:
        return {name: term for name, term in self.terms.items() if isinstance(term, Objective)}


class Pretraining(Configured):
    """An encoder and what it learns by: all that a checkpoint has to hold.

    Args:
        encoder: frame -> map; offers `features`, `stride` and `config` (`worldmodel.nn.FrameEncoder`).
        objective: is attached to it.
        shape: `T, C, H, W` of the clips.
    """

    def __init__(self, encoder: nn.Module, objective: Objective, shape: Sequence[int]) -> None:
        super().__init__()
        self.encoder, self.objective = encoder, objective
        self.shape = (int(shape[0]), int(shape[1]), int(shape[2]), int(shape[3]))
        with torch.no_grad():
            objective.attach(encoder, blank(self.shape))

    def forward(self, clip: FrameClip) -> Losses:
        """Returns the losses of a batch.

        Raises:
            ValueError: the clip's frames are not of the size that the parts were made for.
        """
        if tuple(clip.frames.shape[1:]) != self.shape:
            raise ValueError(f"clip of {tuple(clip.frames.shape[1:])} (T, C, H, W), expected {self.shape}")
        return self.objective(self.encoder, clip)
