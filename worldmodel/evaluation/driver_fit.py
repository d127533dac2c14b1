"""What recorded drivers are like: IDM's parameters, driver by driver, and the population that they come from.

Each driver's way behind his recorded leader is simulated from where the piece begins, and its gaps and speeds
are compared with the recorded ones (Treiber and Kesting, *Traffic Flow Dynamics*, ch. 17). A few seconds
do not determine five parameters, so drivers share a log-normal population that is estimated with them: the
largest posterior for each driver, then median and spread over all with each one's own uncertainty added, and
again (as in expectation-maximisation, with Laplace's approximation). What the recording says nothing about
stays where it began; `DriverFit.identified` tells how much was said.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit
from scipy.optimize import least_squares

from worldmodel.evaluation.lane_place import leader, place
from worldmodel.evaluation.realism import REACH
from worldmodel.scene import Recording
from worldmodel.scene.traffic import DriverType, Population, Spread
from worldmodel.scene.traffic.rule import MAX_ACCEL, NOISE_TIME

PARAMETERS = ("desired_speed", "headway", "gap", "accel", "decel")
"""Of `worldmodel.scene.traffic.Drivers`, all positive."""
FIRST_MEAN = np.log([20.0, 1.4, 2.5, 1.5, 2.5])
FIRST_STD = np.array([0.12, 0.35, 0.4, 0.35, 0.35])
"""Where the population's logarithms begin."""
GAP_ERROR, SPEED_ERROR = 0.1, 1.0
"""What IDM is allowed to err: of the distance's logarithm, and of the speed [m/s]. Given, not estimated:
five parameters fit a few seconds far better than they describe the driver."""
LEAST_STD = 0.05
"""No parameter of the population varies less."""
LEAST_TIME = 5.0
"""Shorter pieces are left out [s]."""
EVERY = 1.0
"""Between the compared moments [s]; what lies between says the same."""
MAD = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation; outliers do not move it."""
FAR = 1e6
"""How far ahead a leader is who is not there [m]."""
ROUNDS = 6
TRUCK = 7.0
"""Longer vehicles are trucks [m]."""
DELTA = 4.0
"""IDM's exponent; not fitted."""
OU_SHARE = math.sqrt(2 * NOISE_TIME * (EVERY - NOISE_TIME * (1 - math.exp(-EVERY / NOISE_TIME)))) / EVERY
"""Standard deviation of a second's mean of the drivers' noise, as a share of the noise's own."""


@dataclass(frozen=True)
class Piece:
    """A stretch of one driver's way behind one leader, or behind none, on one lane.

    Attributes:
        leader: his place along the lane and speed at every frame [m, m/s].
        own: the driver's.
        body: half of both lengths [m].
        dt: between frames [s].
    """

    leader: Float[np.ndarray, "T 2"]
    own: Float[np.ndarray, "T 2"]
    body: float
    dt: float

    @property
    def is_free(self) -> bool:
        """Whether nobody is ahead."""
        return bool(self.leader[0, 0] >= FAR / 2)

    def driven(self, values: Float[np.ndarray, "5"]) -> Float[np.ndarray, "T 2"]:
        """Returns the driver's way from the first frame on if his `PARAMETERS` were these."""
        way = np.empty_like(self.own)
        way[0] = self.own[0]
        _drive(values, self.leader, self.body, self.dt, way)
        return way


@dataclass(frozen=True)
class DriverFit:
    """Drivers and their population; `mean`, `std` and `drivers` are of the parameters' logarithms.

    Attributes:
        drivers: the largest posterior of each.
        posterior_std: how uncertain each is.
        gap_error: root mean square of the distance's logarithm, over the fitted pieces.
        speed_error: likewise of the speed [m/s].
        noise_std: of each driver, what his acceleration has beside IDM's [m/s^2].
    """

    mean: Float[np.ndarray, "5"]
    std: Float[np.ndarray, "5"]
    drivers: Float[np.ndarray, "D 5"]
    posterior_std: Float[np.ndarray, "D 5"]
    gap_error: float
    speed_error: float
    noise_std: Float[np.ndarray, " D"]

    @property
    def identified(self) -> Float[np.ndarray, "5"]:
        """Share of the population's variance that the recordings tell about a driver: 1 all, 0 nothing."""
        return np.asarray(1.0 - np.median(self.posterior_std, axis=0) ** 2 / self.std**2)


def following_pieces(recording: Recording) -> list[list[Piece]]:
    """Returns the pieces of each driver who has any, in the order of the tracks."""
    placed, dt = place(recording), recording.dt
    front = leader(placed)
    gap = placed.along[front] - placed.along
    is_behind = (front >= 0) & (gap < REACH)
    is_known = is_behind | (placed.ahead >= REACH)
    who = np.where(is_behind, placed.vehicle[front], -1)
    same = placed.is_same & (np.diff(placed.lane) == 0) & (np.diff(who) == 0) & is_known[1:] & is_known[:-1]
    edges = np.flatnonzero(~same) + 1
    found: dict[int, list[Piece]] = {}
    for rows in np.split(np.arange(len(front)), edges):
        if len(rows) * dt < LEAST_TIME or not is_known[rows[0]]:
            continue
        own = np.stack([placed.along[rows], placed.speed[rows]], axis=1)
        if is_behind[rows[0]]:
            at = front[rows]
            other = np.stack([placed.along[at], placed.speed[at]], axis=1)
            body = float(placed.length[rows[0]] + placed.length[at[0]]) / 2
        else:
            other, body = np.tile([FAR, 0.0], (len(rows), 1)), 5.0
        found.setdefault(int(placed.vehicle[rows[0]]), []).append(Piece(other, own, body, dt))
    return list(found.values())


def fit_drivers(drivers: Sequence[Sequence[Piece]], *, rounds: int = ROUNDS) -> DriverFit:
    """Returns the drivers whose pieces these are, and their population.

    Raises:
        ValueError: there are fewer than two.
    """
    if len(drivers) < 2:
        raise ValueError(f"{len(drivers)} drivers with pieces of {LEAST_TIME} s, expected two or more")
    fit = DriverFit(
        FIRST_MEAN,
        FIRST_STD,
        np.tile(FIRST_MEAN, (len(drivers), 1)),
        np.tile(FIRST_STD, (len(drivers), 1)),
        0.0,
        0.0,
        np.zeros(len(drivers)),
    )
    for _ in range(rounds):
        fit = _again(fit, drivers)
    noise = [_noise(np.exp(log), pieces) for log, pieces in zip(fit.drivers, drivers, strict=True)]
    return replace(fit, noise_std=np.array(noise))


def population_of(
    fit: DriverFit,
    sizes: Float[np.ndarray, "V 2"],
    *,
    like: DriverType = DriverType(),  # noqa: B008 - frozen
) -> Population:
    """Returns the population as simulated drivers: cars and trucks that are driven alike.

    Args:
        sizes: length and width of all vehicles [m].
        like: what is not fitted.
    """
    low, high = np.exp(fit.mean - fit.std), np.exp(fit.mean + fit.std)
    fitted: dict[str, Any] = {
        name: Spread(round(float(high[i] + low[i]) / 2, 3), round(float(high[i] - low[i]) / 2, 3))
        for i, name in enumerate(PARAMETERS)
    }
    fitted["noise_std"] = _spread(fit.noise_std)
    is_truck = sizes[:, 0] >= TRUCK
    types = [
        replace(
            like,
            **fitted,
            share=round(float(chosen.mean()), 3),
            length=_spread(sizes[chosen, 0]),
            width=_spread(sizes[chosen, 1]),
        )
        for chosen in (~is_truck, is_truck)
        if chosen.any()
    ]
    return Population(tuple(types))


def _spread(values: np.ndarray) -> Spread:
    """Median and spread, unmoved by outliers."""
    middle = np.median(values)
    return Spread(round(float(middle), 3), round(float(MAD * np.median(np.abs(values - middle))), 3))


def _again(fit: DriverFit, drivers: Sequence[Sequence[Piece]]) -> DriverFit:
    """One round: every driver given the population, then the population and the errors given the drivers."""
    logs, stds, apart = [], [], []
    for start, pieces in zip(fit.drivers, drivers, strict=True):

        def residual(log: np.ndarray, pieces: Sequence[Piece] = pieces) -> np.ndarray:
            errors = _errors(np.exp(log), pieces) / [GAP_ERROR, SPEED_ERROR]
            return np.concatenate([errors.ravel(), (log - fit.mean) / fit.std])

        found = least_squares(residual, start, loss="soft_l1", max_nfev=30)
        logs.append(found.x)
        stds.append(np.sqrt(np.diag(np.linalg.inv(found.jac.T @ found.jac))))
        apart.append(_errors(np.exp(found.x), pieces))
    log, std, errors = np.stack(logs), np.stack(stds), np.concatenate(apart)
    middle = np.median(log, axis=0)
    spread = np.hypot(MAD * np.median(np.abs(log - middle), axis=0), np.median(std, axis=0))
    behind = errors[:, 0] != 0
    return replace(
        fit,
        mean=middle,
        std=np.maximum(spread, LEAST_STD),
        drivers=log,
        posterior_std=std,
        gap_error=float(np.sqrt((errors[behind, 0] ** 2).mean())) if behind.any() else 0.0,
        speed_error=float(np.sqrt((errors[:, 1] ** 2).mean())),
    )


def _errors(values: np.ndarray, pieces: Sequence[Piece]) -> np.ndarray:
    """Errors of the distance's logarithm (0 where nobody is ahead) and of the speed, every second (N, 2)."""
    found = []
    for one in pieces:
        way, every = one.driven(values), round(EVERY / one.dt)
        simulated, recorded, front = (part[every::every] for part in (way, one.own, one.leader))
        apart = simulated[:, 1] - recorded[:, 1]
        gap = np.log(np.maximum(front[:, 0] - simulated[:, 0], 0.5) / (front[:, 0] - recorded[:, 0]))
        found.append(np.stack([np.zeros_like(gap) if one.is_free else gap, apart], axis=1))
    return np.concatenate(found)


def _noise(values: np.ndarray, pieces: Sequence[Piece]) -> float:
    """Standard deviation of the noise that explains what IDM errs in a second, from recorded states on."""
    errors = []
    for one in pieces:
        every = round(EVERY / one.dt)
        for first in range(0, len(one.own) - every, every):
            cut = slice(first, first + every + 1)
            part = replace(one, leader=one.leader[cut], own=one.own[cut])
            errors.append((part.driven(values)[-1, 1] - part.own[-1, 1]) / EVERY)
    return float(np.sqrt(np.mean(np.square(errors)))) / OU_SHARE


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _drive(values, leader, body, dt, way):
    """Writes a driver's places and speeds after the first: as `worldmodel.scene.traffic.rule` on one lane."""
    desired, headway, gap, accel, decel = values
    x, v = way[0]
    for t in range(len(way) - 1):
        wanted = gap + body + v * headway + v * (v - leader[t, 1]) / (2.0 * math.sqrt(accel * decel))
        share = wanted / max(leader[t, 0] - x, 0.01)
        pedal = accel * (1.0 - (v / desired) ** DELTA - share * share)
        x += v * dt
        v = max(v + min(max(pedal, -MAX_ACCEL), MAX_ACCEL) * dt, 0.0)
        way[t + 1, 0], way[t + 1, 1] = x, v
