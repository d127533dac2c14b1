"""A cost that also asks a critic whether the frame looks real (Pathak et al. 2016), with one optimiser."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import Configured, FrameCost, SquaredError
from worldmodel.ssl.adversarial import Critique, Logistic, frozen


class PatchCritic(Configured):
    """Frame -> energy: the mean over overlapping windows, low where they look real.

    Args:
        channels: of the frame.
        width: of its convolutions.
    """

    def __init__(self, channels: int = 3, *, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 1, 1),
        )

    def forward(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        return self.layers(frame).mean((1, 2, 3))


class Judged(FrameCost):
    """`C(y', y) + weight * (what the critic minds about y')`, and what the critic learns by.

    Where pixels have weights, the rest of the frame is the true one: the critic judges what was filled in
    together with what is around it. The critic learns from frames without their graph, the frame from a
    critic whose parameters are constants.

    Args:
        base: C; None: squared error.
        critic: frame -> energy; None: a `PatchCritic` of three channels.
        critique: what frame and critic pay; None: `Logistic`.
        weight: of the critic's word.
    """

    def __init__(
        self,
        base: FrameCost | None = None,
        *,
        critic: Configured | None = None,
        critique: Critique | None = None,
        weight: float = 0.1,
    ) -> None:
        super().__init__()
        self.base = SquaredError() if base is None else base
        self.critic = PatchCritic() if critic is None else critic
        self.critique = Logistic() if critique is None else critique
        self.weight = weight

    def outputs(self, channels: int) -> int:
        return self.base.outputs(channels)

    def value(self, output: Float[Tensor, "B O H W"]) -> Float[Tensor, "B C H W"]:
        return self.base.value(output)

    def forward(
        self, output: Float[Tensor, "B O H W"], target: Float[Tensor, "B C H W"], weight: Tensor | None = None
    ) -> Float[Tensor, ""]:
        frame = self.value(output)
        if weight is not None:
            frame = torch.lerp(target, frame, weight.expand_as(frame))
        told = self.critique.energy_loss(self.critic, target, frame.detach())
        minded = self.critique.generator_loss(frozen(self.critic)(frame))
        return self.base(output, target, weight) + self.weight * minded + told
