"""Objectives that ask what was done to a frame: `-log p(k | Enc(T_k y))`."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from worldmodel.nn import Configured, encode
from worldmodel.ssl.clip import FrameClip
from worldmodel.ssl.corrupt import Corruption
from worldmodel.ssl.objective import Losses, Objective


@dataclass(frozen=True)
class Question:
    """Views, to be looked at together, and the answer.

    Attributes:
        views: `V` images of one frame or clip.
        label: the class.
        weight: of each row in the loss; None: all alike.
    """

    views: Float[Tensor, "B V C H W"]
    label: Int[Tensor, " B"]
    weight: Float[Tensor, " B"] | None = None


class Transform(Configured):
    """Clip -> a question whose answer is free. It draws from torch's global generator."""

    @property
    def num_classes(self) -> int:
        """How many answers there are."""
        raise NotImplementedError

    def forward(self, clip: FrameClip) -> Question:
        raise NotImplementedError

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        """Makes what depends on the encoder's map, as `Objective.attach`."""

    def refit(self, encoder: nn.Module, clips: Iterable[FrameClip]) -> bool:
        """Does what needs more than a batch, as `Objective.refit`. Are the classes others now?"""
        return False


class Classify(Objective):
    """Cross-entropy of what a head reads off the maps of the views.

    Each view's whole map is embedded, so that where things are counts; the embeddings of all views are read
    together.

    Args:
        transform: makes the question.
        width: of a view's embedding.
        corrupt: of each view, against short cuts.
    """

    embed: nn.Linear
    head: nn.Sequential

    def __init__(self, transform: Transform, *, width: int = 64, corrupt: Corruption | None = None) -> None:
        super().__init__()
        self.transform, self.width, self.corrupt = transform, width, corrupt

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        self.transform.attach(encoder, clip)
        views = self.transform(clip).views
        cells = encode(encoder, views[:1, 0])
        self.embed = nn.Linear(cells[0].numel(), self.width)
        hidden = views.shape[1] * self.width
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Linear(hidden, self.width),
            nn.ReLU(),
            nn.Linear(self.width, self.transform.num_classes),
        )

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        question = self.transform(clip)
        logits = self.answer(encoder, question.views)
        entropy = F.cross_entropy(logits, question.label, reduction="none")
        if question.weight is not None:
            entropy = question.weight * entropy
        right = (logits.argmax(1) == question.label).to(logits.dtype).mean()
        return {"loss": entropy.mean(), "accuracy": right}

    def answer(self, encoder: nn.Module, views: Float[Tensor, "B V C H W"]) -> Float[Tensor, "B K"]:
        """Returns the logits of the classes."""
        images = views.flatten(0, 1)
        if self.corrupt is not None:
            images, _ = self.corrupt(images)
        maps = encode(encoder, images).flatten(1).unflatten(0, views.shape[:2])
        return self.head(self.embed(maps).flatten(1))

    @torch.no_grad()
    def refit(self, encoder: nn.Module, clips: Iterable[FrameClip]) -> None:
        """Refits the transform; where its classes are others then, the head forgets what it knew of them."""
        if self.transform.refit(encoder, clips):
            with torch.random.fork_rng():
                torch.manual_seed(0)  # the same in every process
                for layer in self.head:
                    if isinstance(layer, nn.Linear):
                        layer.reset_parameters()
