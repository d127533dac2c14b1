"""Toy problems with known answers: a small Ising model, a spiral in the plane, a fork in the road."""

import itertools
import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from worldmodel.ssl.push_up import bit_strings


class Ising(nn.Module):
    """`E(s) = -1/2 s^T J s - h^T s` of spins `s = 2 x - 1`, for bits x."""

    def __init__(self, bits: int = 5) -> None:
        super().__init__()
        self.coupling = nn.Parameter(torch.zeros(bits, bits, dtype=torch.float64))
        self.field = nn.Parameter(torch.zeros(bits, dtype=torch.float64))

    def forward(self, state: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
        spin = 2 * state - 1
        coupling = self.coupling + self.coupling.T
        coupling = coupling - coupling.diag().diag()
        return -0.5 * ((spin @ coupling) * spin).sum(-1) - spin @ self.field


def some_ising(bits: int = 5, seed: int = 0) -> Ising:
    """One that is far from uniform."""
    generator = Generator().manual_seed(seed)
    model = Ising(bits)
    with torch.no_grad():
        model.coupling.copy_(0.25 * torch.randn(bits, bits, generator=generator, dtype=torch.float64))
        model.field.copy_(0.4 * torch.randn(bits, generator=generator, dtype=torch.float64))
    return model


def log_probability(model: Ising) -> Float[Tensor, " N"]:
    """Of all states, in the order of `bit_strings`."""
    return (-model(bit_strings(len(model.field)).double())).log_softmax(0)


def divergence(truth: Ising, model: Ising) -> float:
    """`KL(truth | model)`, exactly [nat]."""
    p, q = log_probability(truth), log_probability(model)
    return (p.exp() * (p - q)).sum().item()


def ising_data(truth: Ising, number: int = 4000) -> Float[Tensor, "N D"]:
    """Every state as often as it is probable, rounded: data without the noise of sampling."""
    count = (log_probability(truth).exp() * number).round().long()
    return bit_strings(len(truth.field)).double().repeat_interleave(count, 0)


class Normal(nn.Module):
    """`E(x) = (x - mean)^2 / (2 std^2)` on the line."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(()))
        self.log_std = nn.Parameter(torch.zeros(()))

    @property
    def std(self) -> Tensor:
        return self.log_std.exp()

    def forward(self, point: Float[Tensor, "B 1"]) -> Float[Tensor, " B"]:
        return 0.5 * ((point[:, 0] - self.mean) / self.std).square()


class Quadratic(nn.Module):
    """`E(x) = 1/2 (x - centre)^T P (x - centre)`, with any symmetric P."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.one_side = nn.Parameter(0.5 * torch.eye(dim, dtype=torch.float64))
        self.centre = nn.Parameter(torch.zeros(dim, dtype=torch.float64))

    @property
    def precision(self) -> Float[Tensor, "D D"]:
        return self.one_side + self.one_side.T

    def forward(self, point: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
        away = point - self.centre
        return 0.5 * ((away @ self.precision) * away).sum(-1)


def double_well(point: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
    """Valleys at -1 and 1 of every axis."""
    return (point.square() - 1).square().sum(-1)


def spiral(number: int, *, noise: float = 0.0, generator: Generator | None = None) -> Float[Tensor, "N 2"]:
    """Points of one and a half turns, from near the middle out to a radius of one."""
    turn = torch.rand(number, generator=generator).sqrt()
    angle = 3 * math.pi * turn
    points = turn[:, None] * torch.stack([angle.cos(), angle.sin()], dim=-1)
    return points + noise * torch.randn(number, 2, generator=generator)


def plane(number: int = 41, *, side: float = 1.2) -> Float[Tensor, "N 2"]:
    """A square of points, row by row."""
    line = torch.linspace(-side, side, number)
    return torch.cartesian_prod(line, line)


def distance_to(points: Float[Tensor, "N D"], others: Float[Tensor, "M D"]) -> Float[Tensor, " N"]:
    """From each point to the nearest of the others."""
    return torch.cdist(points, others).amin(1)


def fork(number: int, *, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Pasts `x` in [-1, 1] and their futures `y`: to the left of x, or to the right, as a coin falls."""
    past = 2 * torch.rand(number, 1, generator=generator) - 1
    side = torch.randint(2, (number, 1), generator=generator) * 2.0 - 1
    return past, past + side


def mlp(*sizes: int) -> nn.Sequential:
    """Smooth layers."""
    layers: list[nn.Module] = []
    for into, out in itertools.pairwise(sizes):
        layers += [nn.Linear(into, out), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
