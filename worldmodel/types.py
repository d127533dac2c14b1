"""The frozen dataclasses that cross package borders. Torch tensors, SI units, scenes first.

Two frames are used. *World*: the recording's. *Planning frame*: the ego's pose at the newest frame of an
`Obs`, `x` ahead, `y` left; everything a model predicts and a cost reads is in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


class Indexed:
    """A dataclass of tensors that share their first dimension: index and move them together.

    Its fields may be such dataclasses, too.
    """

    def __getitem__(self, index):
        """Returns the rows `index` (slice, mask or index tensor) of every tensor."""
        return self._map(lambda part: part[index])

    def to(self, device: torch.device | str):
        """Returns the same on `device`."""
        return self._map(lambda part: part.to(device))

    def _map(self, fn):
        parts = {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]
        return type(self)(
            **{name: fn(part) if isinstance(part, Tensor | Indexed) else part for name, part in parts.items()}
        )


@dataclass(frozen=True)
class Obs(Indexed):
    """What the ego sees: `K` frames of history, newest last.

    Attributes:
        image: ego-centred, ego-rotated rasters, each drawn at its own frame's ego pose; the ego is not drawn.
        state: ego states `x, y, heading, speed` in the world frame [m, m, rad, m/s].
        size: ego length and width [m].
        road: the known road around the newest pose, in the planning frame (`worldmodel.scene.road`).
        origin: recording, vehicle row and frame (newest) the observation was taken at. Only oracles and
            rule-based baselines may look things up by it.
        scene: number of the running episode each row belongs to; planners key their memory by it.
    """

    image: UInt8[Tensor, "B K C H W"]
    state: Float[Tensor, "B K 4"]
    size: Float[Tensor, "B 2"]
    road: Float[Tensor, "B R HR WR"]
    origin: Int[Tensor, "B 3"]
    scene: Int[Tensor, " B"]

    @property
    def batch_size(self) -> int:
        return self.state.shape[0]


@dataclass(frozen=True)
class Clip(Indexed):
    """A training window of `F = K + T` frames.

    Attributes:
        image: rasters; the first `K` at the recorded ego poses, the rest at `view`.
        state: recorded ego states, world frame.
        action: `action[t]` leads from `state[t]` to `state[t + 1]`.
        view: world pose `x, y, heading` at which each raster was drawn.
        covered: whether the raster row lies on road that was being recorded; losses and metrics ignore the
            others.
        size: ego length and width [m].
        road: as in `Obs`, around the newest history pose.
        origin: recording, vehicle row and frame (of the newest history frame).
    """

    image: UInt8[Tensor, "B F C H W"]
    state: Float[Tensor, "B F 4"]
    action: Float[Tensor, "B F1 2"]
    view: Float[Tensor, "B F 3"]
    covered: Bool[Tensor, "B F H"]
    size: Float[Tensor, "B 2"]
    road: Float[Tensor, "B R HR WR"]
    origin: Int[Tensor, "B 3"]

    def obs(self, history: int) -> Obs:
        """Returns the first `history` frames as an observation."""
        return Obs(
            image=self.image[:, :history],
            state=self.state[:, :history],
            size=self.size,
            road=self.road,
            origin=self.origin,
            scene=torch.arange(self.size.shape[0], device=self.size.device),
        )


@dataclass(frozen=True)
class Prediction(Indexed):
    """One predicted frame.

    Attributes:
        image: in [0, 1]; the channels the model predicts, vehicles first.
        ego: state of the ego in the planning frame.
        view: pose of the image in the planning frame; the ego's pose where the view follows the ego.
        variance: epistemic variance of the image, or None where the model does not estimate it.
    """

    image: Float[Tensor, "B C H W"]
    ego: Float[Tensor, "B 4"]
    view: Float[Tensor, "B 3"]
    variance: Float[Tensor, "B C H W"] | None = None


@dataclass(frozen=True)
class Rollout(Indexed):
    """`T` predicted frames under `T` actions; what costs read. Fields as in `Prediction`, with time second.

    Attributes:
        action: `action[:, t]` led to frame `t`.
        previous_action: the action executed before the first of these (zero when unknown); jerk needs it.
        size: ego length and width [m].
        road: the road patch of the observation, planning frame.
    """

    image: Float[Tensor, "B T C H W"]
    ego: Float[Tensor, "B T 4"]
    view: Float[Tensor, "B T 3"]
    action: Float[Tensor, "B T 2"]
    previous_action: Float[Tensor, "B 2"]
    size: Float[Tensor, "B 2"]
    road: Float[Tensor, "B R HR WR"]
    variance: Float[Tensor, "B T C H W"] | None = None


@dataclass(frozen=True)
class CostTerms:
    """Named cost terms, unweighted, with their weights; `total` is what a planner minimises."""

    terms: Mapping[str, Float[Tensor, "B T"]]
    weights: Mapping[str, float]

    @property
    def total(self) -> Float[Tensor, "B T"]:
        """The weighted sum of the terms."""
        stacked = torch.stack(list(self.terms.values()), dim=-1)
        return stacked @ stacked.new_tensor([self.weights[name] for name in self.terms])


@dataclass(frozen=True)
class Plan(Indexed):
    """An action sequence for each scene, with its cost.

    Attributes:
        action: `accel` [m/s^2], `curvature` [1/m].
        ego: the states the planner expects, planning frame.
        cost: the objective's value.
        others: further good sequences, from which the next decision may start; None where there are none.
    """

    action: Float[Tensor, "B T 2"]
    ego: Float[Tensor, "B T 4"]
    cost: Float[Tensor, " B"]
    others: Float[Tensor, "B N T 2"] | None = None
