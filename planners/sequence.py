"""Action sequences as a few bounded numbers: knots, interpolated linearly, in units of what a car can do.

Optimisers work on the knots, objectives read the actions; `ActionSequences` translates.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ActionBounds:
    """What the planner may do, and in what steps it thinks.

    Attributes:
        accel: lowest and highest [m/s^2].
        curvature: largest, either way [1/m].
        lateral: largest sideways acceleration, either way [m/s^2]; limits the curvature at speed.
    """

    accel: tuple[float, float] = (-6.0, 3.0)
    curvature: float = 0.1
    lateral: float = 3.0

    def scale(self, speed: Float[Tensor, " B"]) -> Float[Tensor, "B 2"]:
        """Returns what 1 stands for in normalised actions: full braking, the tightest turn at `speed`."""
        tightest = (self.lateral / speed.square().clamp_min(1e-3)).clamp_max(self.curvature)
        return torch.stack([torch.full_like(tightest, -self.accel[0]), tightest], dim=-1)

    @property
    def low(self) -> tuple[float, float]:
        """Of normalised actions."""
        return -1.0, -1.0

    @property
    def high(self) -> tuple[float, float]:
        """Of normalised actions."""
        return -self.accel[1] / self.accel[0], 1.0


@dataclass(frozen=True)
class ActionSequences:
    """The sequences that can be driven from given speeds, as normalised knots.

    Attributes:
        spread: `interpolation` of the knots over the horizon.
        gather: its pseudo-inverse.
        scale: what 1 stands for in each scene.
        speed: to start with [m/s].
        dt: [s]
    """

    spread: Float[Tensor, "T K"]
    gather: Float[Tensor, "K T"]
    scale: Float[Tensor, "B 1 1 2"]
    speed: Float[Tensor, " B"]
    dt: float

    def actions(self, knots: Float[Tensor, "B N K 2"]) -> Float[Tensor, "B N T 2"]:
        """Returns the sequences that knots stand for."""
        return without_reversing(self.spread @ knots * self.scale, self.speed[:, None], self.dt)

    def knots(self, actions: Float[Tensor, "B N T 2"]) -> Float[Tensor, "B N K 2"]:
        """Returns the knots whose sequences are closest to the given ones."""
        return self.gather @ (actions.to(self.scale) / self.scale)


def interpolation(num_knots: int, horizon: int) -> Float[Tensor, "horizon num_knots"]:
    """Returns the matrix from knots, spread evenly over the horizon, to a piecewise linear sequence."""
    if num_knots == 1:
        return torch.ones(horizon, 1)
    position = torch.linspace(0.0, num_knots - 1.0, horizon)[:, None]
    return (1 - (position - torch.arange(num_knots)).abs()).clamp_min(0.0)


def without_reversing(
    action: Float[Tensor, "*B T 2"], speed: Float[Tensor, "*#B"], dt: float
) -> Float[Tensor, "*B T 2"]:
    """Returns the action sequence with every braking ended at standstill.

    The speeds are reflected at zero: `v[t+1] = max(0, v[t] + accel[t] dt)` for all steps at once, by
    `v = s + relu(max_{k <= t} -s[k])` with the unhindered speeds `s`. A car that rolls backwards already is
    only kept from going faster backwards.

    Args:
        action: acceleration [m/s^2] and curvature [1/m].
        speed: before the first action [m/s].
        dt: [s]
    """
    before = speed.unsqueeze(-1)
    free = before + action[..., 0].cumsum(-1) * dt
    held = free + (before.clamp(max=0.0) - free).cummax(-1).values.relu()
    speeds = torch.cat([before.expand_as(free[..., :1]), held], dim=-1)
    return torch.stack([speeds.diff(dim=-1) / dt, action[..., 1]], dim=-1)
