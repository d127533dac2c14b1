"""Inference of codes: `argmin_z C(y, Dec z) + pull/2 |z - z'|^2 + R(z)`, by one way or another."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.nn import Configured
from worldmodel.nn.sparse import accelerate, descend
from worldmodel.ssl.dictionary import Dictionary
from worldmodel.ssl.penalty import Penalty


@dataclass(frozen=True)
class Problem:
    """What is to be explained, by what, at which price.

    Attributes:
        target: y.
        guess: z', the head's; carries gradients to the encoder.
        dictionary: Dec.
        penalty: R.
        pull: weight of the distance from the guess.
    """

    target: Float[Tensor, "N D *S"]
    guess: Float[Tensor, "N Z *C"]
    dictionary: Dictionary
    penalty: Penalty
    pull: float = 0.0

    def start(self) -> Float[Tensor, "N Z *C"]:
        """Returns the guess if it pulls, else zero."""
        return self.guess.detach() if self.pull else torch.zeros_like(self.guess)

    def gradient(self, code: Float[Tensor, "N Z *C"]) -> Float[Tensor, "N Z *C"]:
        """Returns the gradient of what is smooth in the energy, `1/2 |y - Dec z|^2 + pull/2 |z - z'|^2`."""
        wrong = self.dictionary.adjoint(self.dictionary(code) - self.target)
        return wrong + self.pull * (code - self.guess) if self.pull else wrong

    def bound(self) -> Float[Tensor, ""]:
        """Returns at least the greatest curvature of that."""
        return self.dictionary.bound() + self.pull

    def energy(self, code: Float[Tensor, "N Z *C"]) -> Float[Tensor, ""]:
        """Returns what is minimised, of a code (row or cell) on average."""
        wrong = self.target - self.dictionary(code)
        squares = 0.5 * wrong.square().sum() + 0.5 * self.pull * (code - self.guess).square().sum()
        return squares / code[:, 0].numel() + self.penalty(code).mean()


class Inference(Configured):
    """Problem -> code."""

    def forward(self, problem: Problem) -> Float[Tensor, "N Z *C"]:
        raise NotImplementedError


class ISTA(Inference):
    """Steps of shrinkage, without gradient."""

    def __init__(self, num_steps: int = 50) -> None:
        super().__init__()
        self.num_steps = num_steps

    @torch.no_grad()
    def forward(self, problem: Problem) -> Float[Tensor, "N Z *C"]:
        return descend(
            problem.gradient,
            problem.penalty.shrink,
            start=problem.start(),
            bound=problem.bound(),
            num_steps=self.num_steps,
        )


class FISTA(Inference):
    """The same with momentum: closer after as many steps."""

    def __init__(self, num_steps: int = 20) -> None:
        super().__init__()
        self.num_steps = num_steps

    @torch.no_grad()
    def forward(self, problem: Problem) -> Float[Tensor, "N Z *C"]:
        return accelerate(
            problem.gradient,
            problem.penalty.shrink,
            start=problem.start(),
            bound=problem.bound(),
            num_steps=self.num_steps,
        )


class Guess(Inference):
    """The encoder's guess itself, as far as the penalty allows it: an auto-encoder. Gradients pass."""

    def forward(self, problem: Problem) -> Float[Tensor, "N Z *C"]:
        guess = problem.guess
        return problem.penalty.shrink(guess, guess, torch.zeros_like(guess[:1, :1]).sum())
