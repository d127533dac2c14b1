"""Driving in imagination: a policy in closed loop with a world model, as a `Rollout` with gradients.

Both functions here visit the same states and return the same numbers. They differ in the way the gradient
takes. `imagine` holds what the policy saw fixed: an action changes the states that follow, not the later
actions. It drives once without gradient, then decides all steps in one call and unrolls the world model on
the actions, so it is fast, and no gradient passes through the policy twice. `imagine_through_views`
differentiates the whole loop, as PPUU does.

The world model's parameters are nobody's business here: freeze them (`requires_grad_(False)`), and the
gradient runs through them to the actions at no cost for their own.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from planners.policy.network import Policy, draw_noise
from planners.policy.view import PolicyView, Situation, look, proceed, situate
from worldmodel.protocols import Hidden, WorldModel
from worldmodel.types import Indexed, Obs, Prediction, Rollout


@dataclass(frozen=True)
class Start:
    """Where imagination starts: a world model that has read the history, and the latents of the horizon.

    Rows of all parts belong together.
    """

    world: WorldModel
    hidden: Hidden
    obs: Obs
    latent: Float[Tensor, "B T Z"]

    @property
    def horizon(self) -> int:
        return self.latent.shape[1]


@dataclass(frozen=True)
class Imagination:
    """What the policy did and what came of it.

    Attributes:
        rollout: the predicted frames, under the policy's actions.
        views: what each action was decided on, scenes first: row `b * T + t`. Constants.
        last: the situation after the last action.
    """

    rollout: Rollout
    views: PolicyView
    last: Situation


@runtime_checkable
class ImagineFn(Protocol):
    """Start -> imagination, differentiable in the policy's parameters."""

    def __call__(
        self, policy: Policy, start: Start, *, noise: Float[Tensor, "B T E"] | None = None
    ) -> Imagination:
        """Returns what the policy does from `start`; its mean actions without noise."""
        ...


def imagine(policy: Policy, start: Start, *, noise: Float[Tensor, "B T E"] | None = None) -> Imagination:
    """Drives, then differentiates the world model along the driven actions."""
    with torch.no_grad():
        trip = travel(policy, start, noise=noise)
    views, last = _stack(trip.views), trip.situation
    action = policy(views, None if noise is None else noise.flatten(0, 1)).unflatten(0, (-1, start.horizon))
    rollout = start.world.unroll(start.hidden, action, start.latent)
    first = situate(start.obs, policy.view_spec).previous_action
    newest = proceed(last, action[:, -1], _last_frame(rollout), spec=policy.view_spec)
    # The newest frame takes the place of its copy without gradient.
    last = replace(
        newest, image=(*last.image[:-1], newest.image[-1]), pose=(*last.pose[:-1], newest.pose[-1])
    )
    return Imagination(replace(rollout, previous_action=first), views, last)


def imagine_through_views(
    policy: Policy,
    start: Start,
    *,
    noise: Float[Tensor, "B T E"] | None = None,
    detach_every: int | None = None,
) -> Imagination:
    """Drives with the gradient running through what the policy sees, too.

    Args:
        policy: drives.
        start: where.
        noise: of the policy.
        detach_every: truncates: no gradient passes from one group of so many steps to the one before.
    """
    trip = travel(policy, start, noise=noise, detach_every=detach_every)
    frames, first = trip.frames, situate(start.obs, policy.view_spec)
    variances = [one.variance for one in frames if one.variance is not None]
    rollout = Rollout(
        image=torch.stack([one.image for one in frames], dim=1),
        ego=torch.stack([one.ego for one in frames], dim=1),
        view=torch.stack([one.view for one in frames], dim=1),
        action=torch.stack(list(trip.actions), dim=1),
        previous_action=first.previous_action,
        size=first.size,
        road=first.road,
        variance=torch.stack(variances, dim=1) if variances else None,
    )
    return Imagination(rollout, _stack([one.detach() for one in trip.views]), trip.situation)


def start_from(world: WorldModel, obs: Obs, *, horizon: int, generator: Generator | None = None) -> Start:
    """Returns the start at the newest frame of an observation, latents from the prior."""
    hidden = world.init(obs)
    return Start(world, hidden, obs, world.sample_latent(hidden, horizon, generator))


def noise_for(
    policy: Policy, start: Start, generator: Generator | None = None
) -> Float[Tensor, "B T E"] | None:
    """Returns the noise of a stochastic policy over the horizon; none for a deterministic one."""
    if not policy.num_noise:
        return None
    rows, horizon = start.latent.shape[:2]
    flat = draw_noise(policy, rows * horizon, like=start.latent, generator=generator)
    noise: Tensor = flat.unflatten(0, (rows, -1))
    return noise


@dataclass(frozen=True)
class Trip:
    """A drive step by step: views and actions, the frames they led to, and the situation at the end."""

    views: Sequence[PolicyView]
    actions: Sequence[Tensor]
    frames: Sequence[Prediction]
    situation: Situation


def travel(
    policy: Policy,
    start: Start,
    *,
    noise: Float[Tensor, "B T E"] | None = None,
    detach_every: int | None = None,
) -> Trip:
    """Returns the drive of a policy, step by step; differentiable as a whole."""
    spec, hidden = policy.view_spec, start.hidden
    situation, views, actions, frames = situate(start.obs, spec), [], [], []
    for tick in range(start.horizon):
        if detach_every and tick and tick % detach_every == 0:
            situation, hidden = situation.detach(), detached(hidden)
        view = look(situation, spec)
        action = policy(view, None if noise is None else noise[:, tick])
        hidden, frame = start.world.step(hidden, action, start.latent[:, tick])
        situation = proceed(situation, action, frame, spec=spec)
        views.append(view)
        actions.append(action)
        frames.append(frame)
    return Trip(views, actions, frames, situation)


def detached(hidden: Any) -> Any:
    """Returns a hidden state (tensors, dataclasses and sequences of them) without its past."""
    if isinstance(hidden, Tensor):
        return hidden.detach()
    if dataclasses.is_dataclass(hidden) and not isinstance(hidden, type):
        parts = {one.name: detached(getattr(hidden, one.name)) for one in dataclasses.fields(hidden)}
        return dataclasses.replace(hidden, **parts)
    if isinstance(hidden, list | tuple):
        return type(hidden)(detached(part) for part in hidden)
    return hidden


def _stack(views: Sequence[PolicyView]) -> PolicyView:
    """Joins the views of all steps, those of a scene next to each other."""
    return PolicyView(
        *(
            torch.stack([getattr(one, name) for one in views], dim=1).flatten(0, 1)
            for name in ("vehicles", "road", "ego")
        )
    )


def _last_frame(rollout: Rollout) -> Prediction:
    return Prediction(rollout.image[:, -1], rollout.ego[:, -1], rollout.view[:, -1])


def repeat_rows(obs: Obs, times: int) -> tuple[Obs, Tensor]:
    """Returns every scene `times` times, consecutively, and which scene each row is."""
    rows = torch.arange(obs.batch_size, device=obs.state.device).repeat_interleave(times)
    found: Indexed = obs[rows]
    assert isinstance(found, Obs)
    return found, rows
