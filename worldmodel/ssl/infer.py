"""Inference of codes: `argmin_z C(y, Dec z) + pull/2 |z - z'|^2 + R(z)`, by one way or another."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from worldmodel.nn import Configured, FrameCost
from worldmodel.nn.cluster import nearest
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
        frame_cost: C; half the squared error, summed, when left out. No other has a `gradient` here.
    """

    target: Float[Tensor, "N D *S"]
    guess: Float[Tensor, "N Z *C"]
    dictionary: Dictionary
    penalty: Penalty
    pull: float = 0.0
    frame_cost: FrameCost | None = None

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
        return self.cost(code) + self.pull * self.distance(code) + self.penalty(code).mean()

    def cost(self, code: Float[Tensor, "N Z *C"]) -> Float[Tensor, ""]:
        """Returns C, of a code on average."""
        decoded = self.dictionary(code)
        if self.frame_cost is not None:
            return self.frame_cost(decoded, self.target)
        return 0.5 * (decoded - self.target).square().sum() / code[:, 0].numel()

    def distance(self, code: Float[Tensor, "N Z *C"]) -> Float[Tensor, ""]:
        """Returns `1/2 |z - z'|^2`, of a code on average."""
        return 0.5 * (code - self.guess).square().sum() / code[:, 0].numel()


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


class Project(Inference):
    """`z = Dec^T y`, which is exact where the columns are orthonormal. Gradients pass."""

    def forward(self, problem: Problem) -> Float[Tensor, "N Z *C"]:
        return problem.dictionary.adjoint(problem.target)


class Nearest(Inference):
    """One entry is one, all others zero: the column that is closest, found by trying every one."""

    @torch.no_grad()
    def forward(self, problem: Problem) -> Float[Tensor, "N Z"]:
        chosen = nearest(problem.target, problem.dictionary.weight.T)
        return F.one_hot(chosen, problem.dictionary.atoms).to(problem.target.dtype)


class PerSample(Inference):
    """Adam on every code, kept to what the penalty allows after each step: for decoders of any kind.

    Args:
        num_steps: for each batch.
        lr: of Adam.
    """

    def __init__(self, num_steps: int = 20, *, lr: float = 0.1) -> None:
        super().__init__()
        self.num_steps, self.lr = num_steps, lr

    @torch.enable_grad()
    def forward(self, problem: Problem) -> Float[Tensor, "N Z *C"]:
        code = problem.start().clone().requires_grad_()
        told = replace(problem, guess=problem.guess.detach())
        optimizer = torch.optim.Adam([code], lr=self.lr)
        for _ in range(self.num_steps):
            number = code[:, 0].numel()
            (code.grad,) = torch.autograd.grad(number * told.energy(code), code)
            optimizer.step()
            with torch.no_grad():
                code.copy_(problem.penalty.shrink(code, code, torch.zeros_like(code[:1, :1]).sum()))
        return code.detach()
