"""Objectives with a code that is inferred: `E(y, z) = C(y, Dec z) + D(z, Enc y) + R(z)`, `F(y) = min_z E`."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import FrameCost, cropped, encode, features_of, gather, stride_of
from worldmodel.ssl.clip import FrameClip
from worldmodel.ssl.dictionary import Dictionary
from worldmodel.ssl.head import Head, Labels, LinearHead
from worldmodel.ssl.infer import FISTA, Inference, Problem
from worldmodel.ssl.objective import Frames, Losses, Objective
from worldmodel.ssl.penalty import Penalty


class Latent(Objective):
    """Codes of frames over a dictionary, which the encoder learns to guess.

    The code is inferred, dictionary and encoder learn from it: `1/2 |y - Dec z|^2 + amortise/2 |z - z'|^2 +
    R(z)`, where `z' = Head(Enc y)`, for each code (of a patch, or of a cell).

    Args:
        dictionary: Dec, and what of a frame is decoded.
        penalty: R.
        infer: how z is found.
        head: the encoder's map -> a guess of z.
        pull: weight of `1/2 |z - z'|^2` while z is inferred; 0: the code is the encoder's teacher and
            learns nothing of it.
        amortise: weight of the same while dictionary and encoder learn.
        cost: C, of a dictionary of whole frames; None: half the squared error, summed over a code's pixels.
        labels: tells classes from the codes, of clips that have one.
        path: what guesses `(B, T, cells, Z)` cost that move through a clip as they should not; a scalar.
        samples: patches (or frames, of a dictionary that overlaps) of a batch that are coded; None: all.

    Raises:
        ValueError: classes, or a path, are to be told from a sample of the codes.
    """

    def __init__(
        self,
        dictionary: Dictionary,
        *,
        penalty: Penalty | None = None,
        infer: Inference | None = None,
        head: Head | None = None,
        pull: float = 0.0,
        amortise: float = 1.0,
        cost: FrameCost | None = None,
        labels: Labels | None = None,
        path: nn.Module | None = None,
        samples: int | None = 2048,
    ) -> None:
        super().__init__()
        self.dictionary = dictionary
        self.penalty = Penalty() if penalty is None else penalty
        self.infer = FISTA() if infer is None else infer
        self.head = LinearHead() if head is None else head
        self.cost, self.labels, self.path = cost, labels, path
        self.pull, self.amortise, self.samples = pull, amortise, samples
        if (labels is not None or path is not None) and samples is not None:
            raise ValueError(
                f"labels and paths read all codes of a clip, but samples={samples}; set samples to None"
            )

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        along, across = stride_of(encoder)
        channels, rows, columns = filled(clip.frames[0], (along, across)).shape[1:]
        self.dictionary.attach(channels, (along, across), (rows // along, columns // across))
        self.head.attach(features_of(encoder), self.dictionary.atoms)
        if self.labels is not None:
            self.labels.attach(self.dictionary.atoms)

    def problem(
        self, encoder: nn.Module, frame: Float[Tensor, "B C H W"], *, samples: int | None = None
    ) -> Problem:
        """Returns what is to be inferred of frames; `samples` of it, drawn at random, or all."""
        target = self.dictionary.targets(filled(frame, stride_of(encoder)))
        guess = self.head(self.dictionary.aligned(encode(encoder, frame)))
        if samples is not None and samples < target.shape[0]:
            chosen = torch.randperm(target.shape[0], device=target.device)[:samples]
            target, guess = target[chosen], guess[chosen]
        return Problem(target, guess, self.dictionary, self.penalty, self.pull, self.cost)

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        problem = self.problem(encoder, clip.frames.flatten(0, 1), samples=self.samples)
        code = self.infer(problem)
        cost, distance, penalty = problem.cost(code), problem.distance(code), self.penalty(code).mean()
        losses = {
            "loss": cost + self.amortise * distance + penalty,
            "cost": cost,
            "distance": distance,
            "penalty": penalty,
            "active": (code != 0).to(cost.dtype).mean(),
        }
        if self.labels is not None and clip.label is not None:
            losses["labels"] = self.labels(code, clip.label)
            losses["loss"] = losses["loss"] + losses["labels"]
        if self.path is not None:
            codes = problem.guess.movedim(1, -1)
            losses["path"] = self.path(codes.reshape(*clip.frames.shape[:2], -1, codes.shape[-1]))
            losses["loss"] = losses["loss"] + losses["path"]
        return losses

    @torch.no_grad()
    def pictures(self, encoder: nn.Module, clip: FrameClip) -> Frames:
        """Returns frames, and what their codes stand for."""
        frame = clip.frames.flatten(0, 1)
        whole = filled(frame, stride_of(encoder))
        problem = self.problem(encoder, frame)
        decoded = self.dictionary(self.infer(problem))
        value = decoded if self.cost is None else self.cost.value(decoded)
        given = self.dictionary.frames(value, (whole.shape[2], whole.shape[3]))
        return {"truth": frame, "given back": cropped(given, frame)}

    def after_step(self, encoder: nn.Module) -> None:
        self.dictionary.normalise()

    def refit(self, encoder: nn.Module, clips: Iterable[FrameClip]) -> None:
        frames = [filled(clip.frames.flatten(0, 1), stride_of(encoder)) for clip in clips]
        self.dictionary.refit(gather(torch.cat(frames)))


def filled(frame: Float[Tensor, "B C H W"], stride: tuple[int, int]) -> Float[Tensor, "B C H2 W2"]:
    """Returns frames filled up below and on the right to multiples of the stride."""
    height, width = frame.shape[-2:]
    return F.pad(frame, (0, -width % stride[1], 0, -height % stride[0]))
