"""Pushing an energy up at what a generator makes: GAN, EBGAN, WGAN, with one optimiser for both players.

The energy learns from fakes without their graph, the generator from an energy whose parameters are constants:
the sum of the two losses gives each player its own gradient and none to the other.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import Configured, gather
from worldmodel.nn.sampler import Energy
from worldmodel.ssl.density import PushUp
from worldmodel.ssl.objective import Losses


class FrameGenerator(Configured):
    """Noise -> rows like the data, through one hidden layer; values in [0, 1] if they are `bounded`.

    Args:
        dim: of the noise.
        width: of the hidden layer.
        bounded: whether a sigmoid comes last, as for frames.
    """

    def __init__(self, *, dim: int = 16, width: int = 64, bounded: bool = True) -> None:
        super().__init__()
        self.dim, self.width, self.bounded = dim, width, bounded

    def attach(self, data: Float[Tensor, "B *D"]) -> None:
        """Makes the layers."""
        layers = [nn.Linear(self.dim, self.width), nn.SiLU(), nn.Linear(self.width, self.width), nn.SiLU()]
        last = [nn.Linear(self.width, data[0].numel()), *([nn.Sigmoid()] if self.bounded else [])]
        self.layers = nn.Sequential(*layers, *last, nn.Unflatten(1, data.shape[1:]))

    def forward(self, number: int, like: Tensor) -> Float[Tensor, "N *D"]:
        """Returns so many rows, on the device of another tensor."""
        noise = torch.randn(number, self.dim, device=like.device, dtype=like.dtype)
        return self.layers(noise)


class Critique(Configured):
    """What the two players pay, by the energies of data and fakes; one such class is one kind of GAN."""

    def energy_loss(
        self, energy: Energy, data: Float[Tensor, "B *D"], fake: Float[Tensor, "N *D"]
    ) -> Float[Tensor, ""]:
        """Returns the energy's loss: low on data, high on fakes."""
        raise NotImplementedError

    def generator_loss(self, height: Float[Tensor, " N"]) -> Float[Tensor, ""]:
        """Returns the generator's loss, given the energies of its fakes."""
        return height.mean()


class Logistic(Critique):
    """`-E` as the log odds of being data (Goodfellow et al. 2014, with the loss that does not saturate).

    Against a fixed generator of density q, the best energy is `-log p / q`.
    """

    def energy_loss(
        self, energy: Energy, data: Float[Tensor, "B *D"], fake: Float[Tensor, "N *D"]
    ) -> Float[Tensor, ""]:
        return F.softplus(energy(data)).mean() + F.softplus(-energy(fake)).mean()

    def generator_loss(self, height: Float[Tensor, " N"]) -> Float[Tensor, ""]:
        return F.softplus(height).mean()


class EnergyMargin(Critique):
    """`E(y) + max(0, m - E(fake))` (Zhao et al. 2017).

    Args:
        margin: the energy above which fakes are left alone.
    """

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def energy_loss(
        self, energy: Energy, data: Float[Tensor, "B *D"], fake: Float[Tensor, "N *D"]
    ) -> Float[Tensor, ""]:
        return energy(data).mean() + F.relu(self.margin - energy(fake)).mean()


class Wasserstein(Critique):
    """`E(y) - E(fake)` of energies with slopes of at most one (Arjovsky et al. 2017): minus a distance.

    The penalty on steeper slopes is one-sided (Petzka et al. 2018): one that asks for slopes of exactly one
    also holds on to an energy that slopes the wrong way.

    Args:
        penalty: weight of `max(0, |grad E| - 1)^2` between data and fakes.
    """

    def __init__(self, penalty: float = 10.0) -> None:
        super().__init__()
        self.penalty = penalty

    def energy_loss(
        self, energy: Energy, data: Float[Tensor, "B *D"], fake: Float[Tensor, "N *D"]
    ) -> Float[Tensor, ""]:
        gap = energy(data).mean() - energy(fake).mean()
        return gap + self.penalty * excess_slope(energy, data, fake)


def excess_slope(
    energy: Energy, one: Float[Tensor, "B *D"], other: Float[Tensor, "B *D"]
) -> Float[Tensor, ""]:
    """Returns the mean of `max(0, |grad E| - 1)^2` at random places between two sets of rows."""
    share = torch.rand(len(one), *[1] * (one.dim() - 1), device=one.device, dtype=one.dtype)
    with torch.enable_grad():
        between = torch.lerp(one, other, share).detach().requires_grad_()
        (slope,) = torch.autograd.grad(energy(between).sum(), between, create_graph=True)
    length = (slope.flatten(1).square().sum(1) + 1e-12).sqrt()
    return F.relu(length - 1).square().mean()


class FadingNoise(Configured):
    """White noise on the data, less with each step: a generator finds the whole of them, then their modes.

    Without it a generator that starts in a few modes never hears of the others: where there is neither data
    nor a fake, the energy says nothing (Sonderby et al. 2017 and Arjovsky and Bottou 2017, instance noise).

    Args:
        std: at the beginning.
        num_steps: after which there is none; it falls on a line.
    """

    step: Tensor

    def __init__(self, std: float = 0.5, *, num_steps: int = 500) -> None:
        super().__init__()
        self.std, self.num_steps = std, num_steps
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def forward(self, data: Float[Tensor, "B *D"]) -> Float[Tensor, "B *D"]:
        """Returns noisy data; counts a step while training."""
        std = self.std * (1 - self.step / self.num_steps).clamp_min(0.0)
        if self.training:
            self.step += 1
        return data + std * torch.randn_like(data)


class Adversarial(PushUp):
    """Pushes the energy up at what a generator makes, which itself goes where the energy is low.

    Args:
        critique: what they pay.
        generator: a `FrameGenerator` of bounded rows when left out.
        noise: on the data; None: none.
        pull_away: weight of what the generator pays for fakes whose codes are alike (`alikeness`; Zhao et al.
            2017, section 2.4); the energy needs a method `code`. 0: nothing.
    """

    def __init__(
        self,
        critique: Critique,
        *,
        generator: Configured | None = None,
        noise: FadingNoise | None = None,
        pull_away: float = 0.0,
    ) -> None:
        super().__init__()
        self.critique = critique
        self.generator = FrameGenerator() if generator is None else generator
        self.noise, self.pull_away = noise, pull_away

    def attach(self, data: Float[Tensor, "B *D"]) -> None:
        self.generator.attach(data)  # type: ignore[operator]

    def forward(self, energy: nn.Module, data: Float[Tensor, "B *D"]) -> Losses:
        data = data if self.noise is None else self.noise(data)
        fake = self.generator(len(data), data)
        told = self.critique.energy_loss(energy, data, fake.detach())
        made = self.critique.generator_loss(frozen(energy)(fake))
        losses = {"loss": told + made, "energy": told, "generator": made}
        if self.pull_away:
            losses["alike"] = alikeness(gather(frozen(Coding(energy))(fake)))
            losses["loss"] = losses["loss"] + self.pull_away * losses["alike"]
        return losses


class Coding(nn.Module):
    """The code of rows, of an energy that has one, as a module of its own.

    Args:
        energy: offers `code`, `(B, *D)` -> `(B, Z)`.
    """

    def __init__(self, energy: nn.Module) -> None:
        super().__init__()
        self.energy = energy

    def forward(self, rows: Float[Tensor, "B *D"]) -> Float[Tensor, "B Z"]:
        return self.energy.code(rows)  # type: ignore[operator]


def alikeness(code: Float[Tensor, "B Z"]) -> Float[Tensor, ""]:
    """Returns the mean squared cosine between the codes of two rows: one if all point the same way."""
    direction = F.normalize(code, dim=1)
    squares = (direction @ direction.T).square()
    number = len(code)
    return (squares.sum() - squares.diagonal().sum()) / (number * (number - 1))


def frozen(energy: nn.Module) -> Energy:
    """Returns the energy with its parameters as constants: differentiable in its rows only."""
    constants = {name: one.detach() for name, one in energy.named_parameters()}
    return lambda rows: torch.func.functional_call(energy, constants, (rows,))
