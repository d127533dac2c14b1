"""How much models disagree: variance over members of image, state and cost, and what is too much of it.

Henaff et al. 2019, section 3.2, with members that are functions (`worldmodel.models.members`): the members
unroll the same actions and latents, and where they part the policy has left what the model knows. The rows of
a rollout are scene-major, `num` members for each scene. Everything is differentiable; variances, not standard
deviations, because the root has no derivative at 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.protocols import Cost
from worldmodel.types import Indexed, Rollout

KINDS = ("image", "state", "cost")
STATE_SCALE = (1.0, 1.0, 0.1, 1.0)
"""What counts as a unit of x [m], y [m], heading [rad] and speed [m/s]."""
FLOOR = 1e-8
"""Smallest standard deviation of a variance to divide by; that of rounding is below."""


@dataclass(frozen=True)
class Disagreement(Indexed):
    """Unbiased variances over members, one number for each scene and step.

    Attributes:
        image: mean over pixels and channels.
        state: mean over the four dimensions, in units of `STATE_SCALE`; 0 where the ego is kinematic.
        cost: of the total cost.
    """

    image: Float[Tensor, "B T"]
    state: Float[Tensor, "B T"]
    cost: Float[Tensor, "B T"]

    def stacked(self, kinds: Sequence[str] = KINDS) -> Float[Tensor, "M B T"]:
        """Returns the kinds one after the other."""
        return torch.stack([getattr(self, kind) for kind in kinds])


def disagreement(rollout: Rollout, num: int, cost: Cost) -> Disagreement:
    """Returns the variance over the `num` members of each scene.

    Args:
        rollout: of members, under the same actions: row `b * num + m` is member `m` in scene `b`.
        num: members, two or more.
        cost: judges each member's prediction.

    Raises:
        ValueError: for fewer than two members, or rows that are no multiple of them.
    """
    rows = len(rollout.ego)
    if num < 2 or rows % num:
        raise ValueError(f"{rows} rows of {num} members; expected num of two or more that divides the rows")
    return Disagreement(
        image=member_variance(rollout.image, num).mean((-3, -2, -1)),
        state=member_variance(rollout.ego / rollout.ego.new_tensor(STATE_SCALE), num).mean(-1),
        cost=member_variance(cost(rollout).total, num),
    )


def member_variance(value: Float[Tensor, "R *rest"], num: int) -> Float[Tensor, "B *rest"]:
    """Returns the unbiased variance over groups of `num` consecutive rows."""
    variance: Tensor = value.unflatten(0, (-1, num)).var(1)
    return variance


def excess(
    value: Float[Tensor, "*#B"], mean: Float[Tensor, "*#B"], std: Float[Tensor, "*#B"], *, hinge: float
) -> Float[Tensor, "*B"]:
    """Returns `relu((value - mean) / std - hinge)`."""
    return ((value - mean) / std.clamp_min(FLOOR) - hinge).relu()


class DisagreementPenalty(nn.Module):
    """`U = sum over kinds of relu((V - mean_t) / std_t - hinge)`; mean and std are those of recorded driving.

    The statistics, one for each kind and step, are buffers: a checkpoint that holds this module needs no
    other file. `worldmodel.training.calibrate_disagreement` measures them.

    Args:
        horizon: steps for which there are statistics.
        hinge: deviations up to this many `std` above the mean are free.
        kinds: which variances count, of `KINDS`. Those of a learnt cost and of the image; the state's is
            constant for models whose ego is kinematic.

    Example:
        >>> penalty = DisagreementPenalty(horizon=2, hinge=0.5, kinds=("image",))
        >>> usual = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> penalty.fit(Disagreement(usual, usual, usual))
        >>> penalty(Disagreement(usual + 2, usual, usual)).sum() > 0
        tensor(True)
    """

    mean: Tensor
    std: Tensor

    def __init__(self, horizon: int, *, hinge: float = 0.5, kinds: Sequence[str] = KINDS) -> None:
        super().__init__()
        if unknown := set(kinds) - set(KINDS):
            raise ValueError(f"unknown kinds {sorted(unknown)}; expected some of {', '.join(KINDS)}")
        self.horizon, self.hinge, self.kinds = horizon, hinge, tuple(kinds)
        self.register_buffer("mean", torch.full((len(self.kinds), horizon), torch.nan))
        self.register_buffer("std", torch.full((len(self.kinds), horizon), torch.nan))

    @property
    def config(self) -> dict[str, Any]:
        """Everything that is needed to make the same module again."""
        return {
            "_target_": "worldmodel.costs.DisagreementPenalty",
            "horizon": self.horizon,
            "hinge": self.hinge,
            "kinds": list(self.kinds),
        }

    def fit(self, usual: Disagreement) -> None:
        """Takes mean and standard deviation from the disagreement on recorded driving.

        Raises:
            ValueError: for fewer than two scenes, or another horizon.
        """
        value = usual.stacked(self.kinds).detach()
        if value.shape[1] < 2 or value.shape[2] != self.horizon:
            raise ValueError(
                f"statistics from {value.shape[1]} scenes of {value.shape[2]} steps; "
                f"expected two or more of {self.horizon}"
            )
        self.mean.copy_(value.mean(1))
        self.std.copy_(value.std(1).clamp_min(FLOOR))

    def forward(self, found: Disagreement) -> Float[Tensor, "B T"]:
        """Returns the penalty of each scene and step; its mean is PPUU's U.

        Raises:
            ValueError: before `fit`, or for more steps than were measured.
        """
        horizon = found.image.shape[1]
        if horizon > self.horizon:
            raise ValueError(
                f"a rollout of {horizon} steps, but disagreement statistics for {self.horizon}; "
                "lower the horizon or measure the statistics over a longer one"
            )
        if self.mean.isnan().any():
            raise ValueError("no statistics yet; measure them with calibrate_disagreement")
        mean, std = self.mean[:, None, :horizon], self.std[:, None, :horizon]
        return excess(found.stacked(self.kinds), mean, std, hinge=self.hinge).sum(0)


@dataclass(frozen=True)
class VarianceParts(Indexed):
    """The variance of a prediction, told apart. Both together are that of a fresh draw of a fresh member.

    Attributes:
        aleatoric: what the latent spreads within a member: futures that the past does not determine. More
            data leaves it.
        epistemic: what the members' means over all latents spread: the model does not know. More data removes
            it.
    """

    aleatoric: Float[Tensor, "*B"]
    epistemic: Float[Tensor, "*B"]


def split_variance(samples: Float[Tensor, "M S *B"]) -> VarianceParts:
    """Returns the two parts of the law of total variance: `Var x = E_m Var_z x + Var_m E_z x`.

    For draws that every member has for itself (a *nested* design); where members share them, they err alike,
    and `split_crossed_variance` is right. Both parts are unbiased: the `S` draws leave `aleatoric / S` in the
    variance of the members' means, which is taken off. The epistemic part may therefore come out below 0
    where there is little.

    Args:
        samples: `M` members, `S` latents for each; two or more of both (one latent for deterministic models).

    Raises:
        ValueError: for fewer than two members.
    """
    between, num_samples = _variance_of_means(samples), samples.shape[1]
    if num_samples < 2:
        return VarianceParts(torch.zeros_like(between), between)
    within = samples.var(1).mean(0)
    return VarianceParts(within, between - within / num_samples)


def split_crossed_variance(samples: Float[Tensor, "M S *B"]) -> VarianceParts:
    """Returns the same parts where draw `s` is the same for all members (a *crossed* design).

    With `x = mean + member + draw + interaction`, what the draws do to all members alike cancels between
    members, and only the interaction leaves a share in the variance of their means:

        epistemic = Var_m E_s x - interaction / S
        interaction = sum (x - mean_m x - mean_s x + mean x)^2 / ((M - 1)(S - 1))

    The aleatoric part is the variance within members as before: that of the draws and of the interaction.
    Unbiased too, with less noise than of as many draws apart, and exactly 0 for members that agree.

    Args:
        samples: `M` members, the same `S` latents for all; two or more of both (one latent for deterministic
            models).

    Raises:
        ValueError: for fewer than two members.
    """
    apart = samples - samples[:1]  # between members nothing changes, and twins differ by exactly 0
    between, (num_members, num_samples) = _variance_of_means(apart), samples.shape[:2]
    if num_samples < 2:
        return VarianceParts(torch.zeros_like(between), between)
    centred = apart - apart.mean(0)
    rest = centred - centred.mean(1, keepdim=True)
    interaction = rest.square().sum((0, 1)) / ((num_members - 1) * (num_samples - 1))
    return VarianceParts(samples.var(1).mean(0), between - interaction / num_samples)


def _variance_of_means(samples: Float[Tensor, "M S *B"]) -> Float[Tensor, "*B"]:
    if len(samples) < 2:
        raise ValueError(f"got {len(samples)} members; the spread over members needs at least two")
    variance: Tensor = samples.mean(1).var(0)
    return variance
