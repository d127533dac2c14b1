"""Small policy networks: what the driver sees -> acceleration and curvature.

An encoder reads a `PolicyView`, a head turns its features into an action: one (`PointHead`), a Gaussian
(`GaussianHead`) or a mixture (`MixtureHead`). Heads work on *raw* actions: normalised by
`planners.sequence.ActionBounds` and unbounded. `PolicyNetwork` squashes them smoothly into the bounds, with
slope 1 at zero. Randomness is an argument: without `noise` a policy returns its mean (the heaviest
component's, for a mixture).

Every head starts at zero, so that a policy does nothing at birth: it keeps speed and heading.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from planners.policy.encoder import ViewEncoder
from planners.policy.view import DEFAULT_VIEW, PolicyView, ViewSpec
from planners.sequence import ActionBounds
from worldmodel.scene import RasterSpec
from worldmodel.scene.constant import constant
from worldmodel.scene.raster import DEFAULT_SPEC


@runtime_checkable
class Policy(Protocol):
    """Chooses an action by what it sees."""

    @property
    def view_spec(self) -> ViewSpec:
        """What it sees."""
        ...

    @property
    def num_noise(self) -> int:
        """Random numbers, from a standard normal distribution, that an action takes."""
        ...

    def __call__(self, view: PolicyView, noise: Float[Tensor, "B E"] | None = None) -> Float[Tensor, "B 2"]:
        """Returns acceleration [m/s^2] and curvature [1/m]; without noise, the mean."""
        ...


@runtime_checkable
class Head(Protocol):
    """Features -> raw action, and how likely a raw action is."""

    num_noise: int
    config: Mapping[str, Any]

    def __call__(
        self, features: Float[Tensor, "B F"], noise: Float[Tensor, "B E"] | None = None
    ) -> Float[Tensor, "B 2"]:
        """Returns a raw action."""
        ...

    def log_prob(self, features: Float[Tensor, "B F"], raw: Float[Tensor, "B 2"]) -> Float[Tensor, " B"]:
        """Returns the log density of a raw action."""
        ...


class PointHead(nn.Module):
    """One action; as a density, a Gaussian of fixed width around it, so that likelihood is squared error.

    Args:
        features: that it reads.
        std: of that Gaussian, in raw actions.
    """

    num_noise = 0

    def __init__(self, features: int = 128, *, std: float = 0.1) -> None:
        super().__init__()
        self.config = {"_target_": f"{__name__}.PointHead", "features": features, "std": std}
        self.std = std
        self.linear = _zero_linear(features, 2)

    def forward(
        self, features: Float[Tensor, "B F"], noise: Float[Tensor, "B E"] | None = None
    ) -> Float[Tensor, "B 2"]:
        """Returns the action; there is no noise to use."""
        raw: Tensor = self.linear(features)
        return raw

    def log_prob(self, features: Float[Tensor, "B F"], raw: Float[Tensor, "B 2"]) -> Float[Tensor, " B"]:
        """Returns the log density of `raw`."""
        log_std = features.new_full((1,), math.log(self.std))
        return gaussian_log_prob(raw, self.linear(features), log_std)


class GaussianHead(nn.Module):
    """Mean and bounded log-variance of a Gaussian, reparameterised.

    Args:
        features: that it reads.
        log_std: bounds of the logarithm of the standard deviation in raw actions; it starts in the middle.
    """

    num_noise = 2

    def __init__(self, features: int = 128, *, log_std: Sequence[float] = (-5.0, -1.0)) -> None:
        super().__init__()
        self.config = {"_target_": f"{__name__}.GaussianHead", "features": features, "log_std": log_std}
        self.log_std = (float(log_std[0]), float(log_std[1]))
        self.linear = _zero_linear(features, 4)

    def forward(
        self, features: Float[Tensor, "B F"], noise: Float[Tensor, "B E"] | None = None
    ) -> Float[Tensor, "B 2"]:
        """Returns `mean + std noise`."""
        mean, log_std = self.parameters_of(features)
        return mean if noise is None else mean + log_std.exp() * noise

    def log_prob(self, features: Float[Tensor, "B F"], raw: Float[Tensor, "B 2"]) -> Float[Tensor, " B"]:
        """Returns the log density of `raw`."""
        mean, log_std = self.parameters_of(features)
        return gaussian_log_prob(raw, mean, log_std)

    def parameters_of(
        self, features: Float[Tensor, "B F"]
    ) -> tuple[Float[Tensor, "B 2"], Float[Tensor, "B 2"]]:
        """Returns mean and log standard deviation."""
        mean, free = self.linear(features).chunk(2, dim=-1)
        return mean, _between(free, *self.log_std)


class MixtureHead(nn.Module):
    """A mixture of diagonal Gaussians (mixture density network, Bishop 1994), for imitation.

    Args:
        features: that it reads.
        num: components.
        log_std: as in `GaussianHead`.
    """

    num_noise = 0

    def __init__(self, features: int = 128, *, num: int = 3, log_std: Sequence[float] = (-6.0, 0.0)) -> None:
        super().__init__()
        self.config = {
            "_target_": f"{__name__}.MixtureHead",
            "features": features,
            "num": num,
            "log_std": log_std,
        }
        self.num, self.log_std = num, (float(log_std[0]), float(log_std[1]))
        self.linear = _zero_linear(features, 5 * num)
        # Components that start alike stay alike: spread them over braking and accelerating.
        with torch.no_grad():
            self.linear.bias.unflatten(0, (num, 5))[:, 1] = torch.linspace(-0.1, 0.1, num) if num > 1 else 0.0

    def forward(
        self, features: Float[Tensor, "B F"], noise: Float[Tensor, "B E"] | None = None
    ) -> Float[Tensor, "B 2"]:
        """Returns the mean of the heaviest component."""
        logit, mean, _ = self.parameters_of(features)
        rows = torch.arange(len(mean), device=mean.device)
        return mean[rows, logit.argmax(-1)]

    def log_prob(self, features: Float[Tensor, "B F"], raw: Float[Tensor, "B 2"]) -> Float[Tensor, " B"]:
        """Returns the log density of `raw`."""
        logit, mean, log_std = self.parameters_of(features)
        each = gaussian_log_prob(raw.unsqueeze(1), mean, log_std)  # (B, M)
        return (logit.log_softmax(-1) + each).logsumexp(-1)

    def parameters_of(
        self, features: Float[Tensor, "B F"]
    ) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B M 2"], Float[Tensor, "B M 2"]]:
        """Returns logits, means and log standard deviations of the components."""
        logit, mean, free = self.linear(features).unflatten(-1, (self.num, 5)).split((1, 2, 2), dim=-1)
        return logit.squeeze(-1), mean, _between(free, *self.log_std)


class PolicyNetwork(nn.Module):
    """A policy, complete with how its view is to be built.

    Args:
        head: `PointHead`, `GaussianHead` or `MixtureHead`; reads `features`.
        raster: of observations and predictions.
        lag: see `ViewSpec`, as the next three.
        pool: rows and columns.
        ahead: [m]
        aside: [m]
        frame_encoder: see `ViewEncoder`, as the next three.
        patch: rows and columns.
        channels: of the convolutions.
        features: between encoder and head.
        accel: lowest and highest acceleration [m/s^2].
        curvature: largest, either way [1/m].
        lateral: largest sideways acceleration, either way [m/s^2].
        dt: [s]

    Example:
        >>> PolicyNetwork(GaussianHead()).num_parameters < 200_000
        True
    """

    def __init__(
        self,
        head: nn.Module | None = None,
        *,
        raster: RasterSpec = DEFAULT_SPEC,
        lag: int = 5,
        pool: Sequence[int] = ViewSpec.pool,
        ahead: Sequence[float] = ViewSpec.ahead,
        aside: Sequence[float] = ViewSpec.aside,
        frame_encoder: nn.Module | None = None,
        patch: Sequence[int] = (3, 4),
        channels: int = 32,
        features: int = 128,
        accel: Sequence[float] = ActionBounds.accel,
        curvature: float = ActionBounds.curvature,
        lateral: float = ActionBounds.lateral,
        dt: float = 0.1,
    ) -> None:
        super().__init__()
        self.view_spec = ViewSpec(raster, lag, _pair(pool), tuple(ahead), tuple(aside), dt)
        self.bounds = ActionBounds((float(accel[0]), float(accel[1])), curvature, lateral)
        self.encoder = ViewEncoder(
            self.view_spec.shape,
            len(self.view_spec.road_points),
            frame_encoder=frame_encoder,
            patch=patch,
            channels=channels,
            features=features,
        )
        self.head: Any = head or PointHead(features)
        described: Any = None if frame_encoder is None else frame_encoder.config
        self._sizes = {
            "frame_encoder": described, "patch": list(patch), "channels": channels, "features": features,
        }  # fmt: skip

    @property
    def config(self) -> dict[str, object]:
        """Everything `worldmodel.models.checkpoint` needs to make the same module again."""
        spec, bounds = self.view_spec, self.bounds
        return {
            "_target_": f"{__name__}.PolicyNetwork",
            "head": self.head.config,
            "raster": spec.raster,
            "lag": spec.lag,
            "pool": list(spec.pool),
            "ahead": list(spec.ahead),
            "aside": list(spec.aside),
            "accel": list(bounds.accel),
            "curvature": bounds.curvature,
            "lateral": bounds.lateral,
            "dt": spec.dt,
            **self._sizes,
        }

    @property
    def spec(self) -> RasterSpec:
        """The rasters it reads."""
        return self.view_spec.raster

    @property
    def num_noise(self) -> int:
        """Random numbers, from a standard normal distribution, that an action takes."""
        return int(self.head.num_noise)

    @property
    def num_parameters(self) -> int:
        return sum(part.numel() for part in self.parameters())

    def forward(self, view: PolicyView, noise: Float[Tensor, "B E"] | None = None) -> Float[Tensor, "B 2"]:
        """Returns acceleration and curvature, within the bounds, and never braking into reverse."""
        raw = self.head(self.encoder(view), noise)
        return self.to_action(raw, view.ego[:, 0])

    def log_prob(self, view: PolicyView, action: Float[Tensor, "B 2"]) -> Float[Tensor, " B"]:
        """Returns how likely an action is, in raw actions: the density but for a factor that has no weights.

        Actions outside the bounds count as on them.
        """
        found: Tensor = self.head.log_prob(self.encoder(view), self.to_raw(action, view.ego[:, 0]))
        return found

    def to_action(self, raw: Float[Tensor, "B 2"], speed: Float[Tensor, " B"]) -> Float[Tensor, "B 2"]:
        """Returns raw actions squashed into the bounds."""
        limit = self._limit(raw)
        accel, curvature = (limit * (raw / limit).tanh() * self.bounds.scale(speed.relu())).unbind(-1)
        # At most down to standstill within the step; the way out of reverse stays free.
        return torch.stack([torch.maximum(accel, -speed / self.view_spec.dt), curvature], dim=-1)

    def to_raw(self, action: Float[Tensor, "B 2"], speed: Float[Tensor, " B"]) -> Float[Tensor, "B 2"]:
        """Returns the raw actions that `to_action` turns into these."""
        normalised = action / self.bounds.scale(speed.relu())
        limit = self._limit(normalised)
        return limit * (normalised / limit).clamp(-0.99, 0.99).atanh()

    def _limit(self, sign: Float[Tensor, "B 2"]) -> Float[Tensor, "B 2"]:
        low, high = (constant(bound, sign) for bound in (self.bounds.low, self.bounds.high))
        return torch.where(sign > 0, high, -low)


class ValueNetwork(nn.Module):
    """What driving on from a view is going to cost: an encoder like a policy's, and one number.

    Args:
        view: of the policy.
        patch: see `ViewEncoder`, as the next two.
        channels: of the convolutions.
        features: of the encoder.
        scale: what an output of 1 stands for, about the sum of the costs ahead.
    """

    def __init__(
        self,
        view: ViewSpec = DEFAULT_VIEW,
        *,
        patch: Sequence[int] = (3, 4),
        channels: int = 32,
        features: int = 128,
        scale: float = 30.0,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.encoder = ViewEncoder(
            view.shape, len(view.road_points), patch=patch, channels=channels, features=features
        )
        self.head = _zero_linear(features, 1)

    def forward(self, view: PolicyView) -> Float[Tensor, " B"]:
        """Returns the expected discounted sum of the costs from here on."""
        value: Tensor = self.scale * self.head(self.encoder(view)).squeeze(-1)
        return value


def draw_noise(
    policy: Policy, num: int, *, like: Tensor, generator: Generator | None = None
) -> Float[Tensor, "N E"]:
    """Returns the standard normal numbers that `num` decisions take."""
    return torch.randn(num, policy.num_noise, generator=generator, device=like.device, dtype=like.dtype)


def gaussian_log_prob(
    value: Float[Tensor, "*#B A"], mean: Float[Tensor, "*#B A"], log_std: Float[Tensor, "*#B #A"]
) -> Float[Tensor, "*B"]:
    """Returns the log density of a Gaussian with independent components, summed over the last dimension."""
    scaled = (value - mean) * (-log_std).exp()
    each = -0.5 * scaled.square() - log_std - 0.5 * math.log(2 * math.pi)
    return each.sum(-1)


def _zero_linear(features: int, out: int) -> nn.Linear:
    linear = nn.Linear(features, out)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _between(free: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * free.sigmoid()


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return int(values[0]), int(values[1])
