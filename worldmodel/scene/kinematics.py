"""Ego motion: state `(x, y, heading, speed)` and action `(accel, curvature)`, forward and inverse.

The integrator is semi-implicit Euler, so that an action moves the car within its own step:

    speed'   = speed + accel dt
    heading' = heading + curvature speed' dt
    x'       = x + speed' cos(heading') dt
    y'       = y + speed' sin(heading') dt

It is exactly invertible: the speed and heading of a frame are those of the chord that led to it.
`track_states` turns positions into such a sequence of states. Speed is signed (negative is reverse); at
standstill the heading cannot change, because a car turns by moving. Nothing here knows rasters, lanes or
learning.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

MAX_CURVATURE = 0.15
"""Tightest turn a recorded car is believed to make [1/m]."""
STANDSTILL = 1e-6
"""A car that would move by less than this in one step stands still [m]."""


def wrap_angle(angle: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Returns `angle` [rad] wrapped into [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def step(state: Float[Tensor, "*B 4"], action: Float[Tensor, "*B 2"], dt: float) -> Float[Tensor, "*B 4"]:
    """Returns the state one step of `dt` [s] later; differentiable in both arguments."""
    x, y, heading, speed = state.unbind(-1)
    accel, curvature = action.unbind(-1)
    speed = speed + accel * dt
    heading = heading + curvature * speed * dt
    return torch.stack(
        [x + speed * heading.cos() * dt, y + speed * heading.sin() * dt, heading, speed], dim=-1
    )


def rollout(
    state: Float[Tensor, "*B 4"], actions: Float[Tensor, "*B T 2"], dt: float
) -> Float[Tensor, "*B T 4"]:
    """Returns the `T` states after `state` under `actions`: `step` repeated, written as cumulative sums."""
    accel, curvature = actions.unbind(-1)
    speed = state[..., 3:] + torch.cumsum(accel, -1) * dt
    heading = state[..., 2:3] + torch.cumsum(curvature * speed, -1) * dt
    x = state[..., 0:1] + torch.cumsum(speed * heading.cos(), -1) * dt
    y = state[..., 1:2] + torch.cumsum(speed * heading.sin(), -1) * dt
    return torch.stack([x, y, heading, speed], dim=-1)


def inverse(states: Float[Tensor, "*B T1 4"], dt: float) -> Float[Tensor, "*B T 2"]:
    """Returns the actions that lead from each state to the next.

    `step(states[t], inverse(states)[t])` is `states[t + 1]`. Curvature is zero where the car does not move.
    Exact for states that obey the integrator (`track_states`); for others it reproduces speed and heading,
    not position.
    """
    speed, heading = states[..., 3], states[..., 2]
    accel = (speed[..., 1:] - speed[..., :-1]) / dt
    travelled = speed[..., 1:] * dt
    turned = wrap_angle(heading[..., 1:] - heading[..., :-1])
    is_moving = travelled.abs() > STANDSTILL / 2
    curvature = torch.where(is_moving, turned / torch.where(is_moving, travelled, 1.0), 0.0)
    return torch.stack([accel, curvature], dim=-1)


def track_states(
    positions: Float[Tensor, "*B T 2"],
    heading: Float[Tensor, "*B"],
    dt: float,
    *,
    max_curvature: float = MAX_CURVATURE,
) -> Float[Tensor, "*B T 4"]:
    """Returns the states of a car that follows `positions` as closely as it can turn.

    Each step heads for the next recorded position, but turns by at most `max_curvature` times the distance
    that it advances; it then moves by the projection of the remaining displacement on its heading. So the
    heading holds at standstill instead of following the noise, a displacement against the heading is reverse,
    no curvature exceeds `max_curvature`, and `inverse` followed by `rollout` returns the result exactly. What
    the projection leaves over is made good by the next steps: the deviation from `positions` is zero wherever
    the path can be driven. Headings are continuous: they do not jump by a full turn.

    Args:
        positions: [m], one path per leading index.
        heading: at the first frame [rad]; the first speed is that of the first chord.
        dt: [s]
        max_curvature: [1/m]
    """
    x, y = positions[..., 0, 0], positions[..., 0, 1]
    states = []
    for t in range(1, positions.shape[-2]):
        dx, dy = positions[..., t, 0] - x, positions[..., t, 1] - y
        ahead = dx * heading.cos() + dy * heading.sin()
        aside = dy * heading.cos() - dx * heading.sin()
        is_moving = ahead.abs() > STANDSTILL
        # Turning towards the target only lengthens the projection, so the curvature stays within the limit.
        limit = max_curvature * ahead.abs()
        turn = torch.atan(aside / torch.where(is_moving, ahead, 1.0)).clamp(-limit, limit)
        heading = torch.where(is_moving, heading + turn, heading)
        travelled = torch.where(is_moving, dx * heading.cos() + dy * heading.sin(), 0.0)
        x, y = x + travelled * heading.cos(), y + travelled * heading.sin()
        states.append(torch.stack([x, y, heading, travelled / dt], dim=-1))
    if not states:
        zero = torch.zeros_like(x)
        return torch.stack([x, y, heading, zero], dim=-1).unsqueeze(-2)
    # The first frame has no chord before it: it takes the second's heading and speed.
    first = torch.stack(
        [positions[..., 0, 0], positions[..., 0, 1], states[0][..., 2], states[0][..., 3]], -1
    )
    return torch.stack([first, *states], dim=-2)


def relative_pose(pose: Float[Tensor, "*B S"], frame: Float[Tensor, "*#B R"]) -> Float[Tensor, "*B S"]:
    """Returns `pose` as seen from `frame`, both `(x, y, heading, ...)`; further columns pass through."""
    dx, dy, turn = (pose[..., :3] - frame[..., :3]).unbind(-1)
    heading = frame[..., 2]
    cos, sin = heading.cos(), heading.sin()
    local = torch.stack([cos * dx + sin * dy, cos * dy - sin * dx, wrap_angle(turn)], dim=-1)
    return local if pose.shape[-1] == 3 else torch.cat([local, pose[..., 3:]], dim=-1)


def compose_pose(local: Float[Tensor, "*B S"], frame: Float[Tensor, "*#B R"]) -> Float[Tensor, "*B S"]:
    """Returns the pose whose `relative_pose` in `frame` is `local`."""
    cos, sin = frame[..., 2].cos(), frame[..., 2].sin()
    x = frame[..., 0] + cos * local[..., 0] - sin * local[..., 1]
    y = frame[..., 1] + sin * local[..., 0] + cos * local[..., 1]
    pose = torch.stack([x, y, wrap_angle(local[..., 2] + frame[..., 2])], dim=-1)
    return torch.cat([pose, local[..., 3:]], dim=-1)


def comoving_views(state: Float[Tensor, "*B 4"], num_steps: int, dt: float) -> Float[Tensor, "*B T 3"]:
    """Returns the *co-moving* frame 1 .. `num_steps` steps ahead: it keeps speed and heading of `state`."""
    x, y, heading, speed = (part.unsqueeze(-1) for part in state.unbind(-1))
    elapsed = torch.arange(1, num_steps + 1, dtype=state.dtype, device=state.device) * dt
    travelled = speed * elapsed
    return torch.stack(
        [x + travelled * heading.cos(), y + travelled * heading.sin(), heading.expand_as(travelled)], dim=-1
    )
