"""What every planner is compared with: doing nothing, keeping the lane, IDM, and the recorded driver.

They look the map, or the recorded driver, up in the recording by `Obs.origin`; who is around, IDM is told by
an `OthersSource`: privileged, and free of any model. All but the log plan one step; ask them again at the
next.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.evaluation.truth import Others, OthersSource
from worldmodel.protocols import Knowledge
from worldmodel.scene import LaneMap, Recording, inverse, rollout
from worldmodel.types import Obs, Plan

MAX_CURVATURE, MAX_LATERAL = 0.1, 3.0
"""Limits of lane keeping [1/m], [m/s^2]."""


class NoAction:
    """Keeps speed and heading, whatever happens.

    Args:
        dt: [s]
    """

    def __init__(self, *, dt: float = 0.1) -> None:
        self.dt = dt

    def reset(self, seed: int | None = None) -> None:
        """Does nothing."""

    def plan(self, obs: Obs) -> Plan:
        """Returns a step without action."""
        return _plan(obs, torch.zeros_like(obs.state[:, -1:, :2]), self.dt)


class LaneKeeping:
    """Keeps its speed and follows the centre of the nearest lane, blind to other vehicles.

    Args:
        recordings: those that `Obs.origin` counts.
        dt: [s]
    """

    def __init__(self, recordings: Sequence[Recording], *, dt: float = 0.1) -> None:
        self.recordings, self.dt = recordings, dt

    def reset(self, seed: int | None = None) -> None:
        """Does nothing."""

    def plan(self, obs: Obs) -> Plan:
        """Returns a step along the lane."""

        def act(lane_map: LaneMap, state: np.ndarray, rows: np.ndarray) -> np.ndarray:
            return np.stack([np.zeros(len(state)), lane_curvature(lane_map, state)[0]], axis=1)

        return _plan(obs, _act(self.recordings, obs, act), self.dt)


class IDM:
    """Keeps the lane and its distance: the intelligent driver model (Treiber et al. 2000).

    Args:
        recordings: those that `Obs.origin` counts; their maps are used.
        source: knows who is around.
        desired_speed: [m/s]
        time_gap: [s]
        standstill: distance kept at standstill [m].
        accel: largest acceleration [m/s^2].
        brake: comfortable deceleration [m/s^2].
        dt: [s]
    """

    needs = frozenset({Knowledge.OTHERS})

    def __init__(
        self,
        recordings: Sequence[Recording],
        source: OthersSource,
        *,
        desired_speed: float = 30.0,
        time_gap: float = 1.2,
        standstill: float = 2.0,
        accel: float = 1.5,
        brake: float = 2.0,
        dt: float = 0.1,
    ) -> None:
        self.recordings, self.source, self.dt = recordings, source, dt
        self.desired_speed, self.time_gap, self.standstill = desired_speed, time_gap, standstill
        self.accel, self.brake = accel, brake

    def reset(self, seed: int | None = None) -> None:
        """Does nothing."""

    def plan(self, obs: Obs) -> Plan:
        """Returns a step along the lane, behind its leader."""
        others, size = self.source.others(obs), obs.size.double().cpu().numpy()

        def act(lane_map: LaneMap, state: np.ndarray, rows: np.ndarray) -> np.ndarray:
            return self._follow(lane_map, state, size[rows], others[rows])

        return _plan(obs, _act(self.recordings, obs, act), self.dt)

    def _follow(self, lane_map: LaneMap, state: np.ndarray, size: np.ndarray, others: Others) -> np.ndarray:
        curvature, bend = lane_curvature(lane_map, state)
        gap, leader_speed = leaders(lane_map, state, size, others, bend=bend)
        speed = np.maximum(state[:, 3], 0.0)
        closing = speed * (speed - leader_speed) / (2 * np.sqrt(self.accel * self.brake))
        wanted = self.standstill + np.maximum(speed * self.time_gap + closing, 0.0)
        accel = self.accel * (1 - (speed / self.desired_speed) ** 4 - (wanted / np.maximum(gap, 0.1)) ** 2)
        # No reverse: at most down to standstill within the step.
        return np.stack([np.clip(accel, np.maximum(-8.0, -speed / self.dt), 4.0), curvature], axis=1)


class LogReplay:
    """Repeats what the recorded driver did; after the end of the record, nothing.

    Args:
        recordings: those that `Obs.origin` counts.
        horizon: steps in a plan.
        dt: [s]
    """

    needs = frozenset({Knowledge.LOG})

    def __init__(self, recordings: Sequence[Recording], *, horizon: int = 30, dt: float = 0.1) -> None:
        self.recordings, self.horizon, self.dt = recordings, horizon, dt

    def reset(self, seed: int | None = None) -> None:
        """Does nothing."""

    def plan(self, obs: Obs) -> Plan:
        """Returns the recorded actions."""
        rows = [self._recorded(*origin) for origin in obs.origin.tolist()]
        return _plan(obs, torch.stack(rows).to(obs.state), self.dt)

    def _recorded(self, index: int, vehicle: int, frame: int) -> Float[Tensor, "T 2"]:
        tracks = self.recordings[index].tracks
        last = frame + self.horizon + 1
        action = torch.zeros(self.horizon, 2, dtype=torch.float64)
        valid = tracks.valid[vehicle, frame:last]
        known = len(valid) if valid.all() else int(np.argmin(valid))
        if known > 1:
            states = torch.from_numpy(tracks.state[vehicle, frame : frame + known])
            action[: known - 1] = inverse(states.double(), self.dt)
        return action


def lane_curvature(
    lane_map: LaneMap, state: Float[np.ndarray, "N 4"]
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Returns the curvature that leads back to the nearest lane's centre, and that of the lane itself [1/m].

    With `e` the offset and `h` the heading from the lane's, `curvature = bend - e / l^2 - 2 sin(h) / l` is a
    critically damped spring over the travelled distance; its length `l`, a second of driving, makes it 1
    m/s^2 per metre of offset.
    """
    x, y, heading, speed = state.T
    length = np.maximum(np.abs(speed) * 1.0, 5.0)
    here = lane_map.query(state[:, :2])
    ahead = lane_map.query(
        np.stack([x + length * np.cos(here.heading), y + length * np.sin(here.heading)], axis=1)
    )
    bend = _wrap(ahead.heading - here.heading) / length
    curvature = bend - here.offset / length**2 - 2 * np.sin(_wrap(heading - here.heading)) / length
    limit = np.minimum(MAX_CURVATURE, MAX_LATERAL / np.maximum(speed**2, 1e-3))
    return np.clip(curvature, -limit, limit), bend


def leaders(
    lane_map: LaneMap,
    state: Float[np.ndarray, "N 4"],
    size: Float[np.ndarray, "N 2"],
    others: Others,
    *,
    bend: Float[np.ndarray, " N"],
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Returns the gap to the next vehicle in the ego's lane [m], infinite without one, and its speed [m/s].

    Args:
        lane_map: the lanes.
        state: of the egos.
        size: of the egos.
        others: around each.
        bend: curvature of the lane at each ego [1/m].
    """
    lane = lane_map.query(state[:, :2])
    dx, dy = (others.box[..., axis] - state[:, axis, None] for axis in (0, 1))  # (N, V)
    cos, sin = np.cos(lane.heading)[:, None], np.sin(lane.heading)[:, None]
    along = cos * dx + sin * dy
    across = cos * dy - sin * dx + lane.offset[:, None] - bend[:, None] * along**2 / 2
    is_leader = others.valid & (along > 0) & (np.abs(across) < lane.half_width[:, None])
    gap = along - (others.box[..., 3] + size[:, :1]) / 2
    gap = np.where(is_leader, gap, np.inf)
    nearest = gap.argmin(axis=1)
    rows = np.arange(len(state))
    speed = others.speed[rows, nearest] * np.cos(others.box[rows, nearest, 2] - lane.heading)
    return gap[rows, nearest], np.where(np.isfinite(gap[rows, nearest]), speed, state[:, 3])


ActFn = Callable[[LaneMap, np.ndarray, np.ndarray], np.ndarray]


def _act(recordings: Sequence[Recording], obs: Obs, act: ActFn) -> Float[Tensor, "B 1 2"]:
    """Asks `act(lane_map, state, rows)` for the actions of each recording's rows."""
    state, number = obs.state[:, -1].double().cpu().numpy(), obs.origin[:, 0].cpu().numpy()
    action = np.zeros((len(state), 2))
    for index in np.unique(number):
        rows = np.flatnonzero(number == index)
        action[rows] = act(recordings[index].lane_map, state[rows], rows)
    return torch.from_numpy(action).to(obs.state).unsqueeze(1)


def _plan(obs: Obs, action: Float[Tensor, "B T 2"], dt: float) -> Plan:
    start = torch.cat([torch.zeros_like(obs.state[:, -1, :3]), obs.state[:, -1, 3:]], dim=-1)
    return Plan(action=action, ego=rollout(start, action, dt), cost=torch.zeros_like(start[:, 0]))


def _wrap(angle: np.ndarray) -> np.ndarray:
    wrapped: np.ndarray = np.remainder(angle + np.pi, 2 * np.pi) - np.pi
    return wrapped
