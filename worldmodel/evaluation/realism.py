"""How traffic flows: what can be counted in any recording, recorded or simulated, and compared.

Speed against density, time gaps, accelerations, lane changes. Only what both can show is counted: followers
whose leader would have been recorded if there were one, cells of road that were recorded. One number for each
vehicle and second, so that longer recordings weigh more and finer ones do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import chi2, ks_2samp, wasserstein_distance

from worldmodel.evaluation.lane_place import Lanes, Placed, leader, place
from worldmodel.evaluation.statistics import Interval
from worldmodel.scene import Recording

CELL_LENGTH, CELL_TIME = 100.0, 5.0
"""Extent of a cell of speed and density, of one lane [m, s]."""
LEAST_AREA = 0.5
"""Cells less of which was recorded are left out."""
REACH = 80.0
"""Leaders are looked for so far ahead, bumper to bumper [m]."""
FOLLOWING_SPEED = 2.0
"""Slower vehicles keep distances, faster ones time gaps [m/s]."""
SAMPLE_TIME = 1.0
"""Between the samples of a vehicle [s]."""
INSIDE = 0.5
"""Whoever is so far within a lane's border is in that lane for good [m]."""
CHANGE_TIME = 2.0
"""Before and after the border is crossed, in which a lane change is fastest [s]."""
SMOOTHED = 5
"""Frames over which lateral speeds are means."""
DENSITY_BIN = 5.0
"""Of the speed-density curve [vehicles per km and lane]."""
LEAST_CELLS = 10
"""Bins of fewer cells have no speed."""
DISTRIBUTIONS = ("time_gap", "low_speed_gap", "acceleration", "lateral_speed", "speed")
"""Samples of `Flow` that have a distribution to compare."""


@dataclass(frozen=True)
class Flow:
    """What was counted in some recordings.

    Attributes:
        cell_density: [vehicles per km and lane]
        cell_speed: mean speed in the same cells [m/s].
        time_gap: net gap over speed of followers faster than 2 m/s [s].
        low_speed_gap: net gap of slower followers [m].
        acceleration: means over a second [m/s^2].
        speed: [m/s]
        lateral_speed: of each lane change, where it is fastest [m/s].
        kilometres: driven by all vehicles together.
    """

    cell_density: Float[np.ndarray, " C"]
    cell_speed: Float[np.ndarray, " C"]
    time_gap: Float[np.ndarray, " N"]
    low_speed_gap: Float[np.ndarray, " M"]
    acceleration: Float[np.ndarray, " A"]
    speed: Float[np.ndarray, " S"]
    lateral_speed: Float[np.ndarray, " L"]
    kilometres: float

    @property
    def change_rate(self) -> Interval:
        """Lane changes per vehicle-kilometre, with the exact 95 % interval of a Poisson count."""
        num = len(self.lateral_speed)
        low = chi2.ppf(0.025, 2 * num) / 2 if num else 0.0
        high = chi2.ppf(0.975, 2 * num + 2) / 2
        return Interval(*(float(count / self.kilometres) for count in (num, low, high)))


@dataclass(frozen=True)
class LaneChanges:
    """Changes from lane to lane that were carried through.

    Attributes:
        row: of `Placed`, the first one in the new lane.
        side: 1 to the left, -1 to the right.
        lateral_speed: where it is fastest [m/s].
    """

    row: Int[np.ndarray, " L"]
    side: Int[np.ndarray, " L"]
    lateral_speed: Float[np.ndarray, " L"]


def measure(recordings: Sequence[Recording]) -> Flow:
    """Returns what is counted in all recordings together.

    Raises:
        ValueError: nobody drives in them.

    Example:
        >>> from worldmodel.data import make_recording
        >>> flow = measure([make_recording(num_vehicles=6, num_frames=100)])
        >>> len(flow.lateral_speed)  # vehicle 0 changes lanes
        1
    """
    if not sum(one.tracks.valid.any() for one in recordings):
        raise ValueError(f"nobody drives in {[one.name for one in recordings]}; give others")
    found = [_measure(one) for one in recordings]
    joined = {
        one.name: np.concatenate([getattr(flow, one.name) for flow in found])
        for one in fields(Flow)
        if one.name != "kilometres"
    }
    return Flow(**joined, kilometres=sum(flow.kilometres for flow in found))


def lane_changes(placed: Placed, dt: float) -> LaneChanges:
    """Returns the lane changes of everybody; crossing a border and coming back is none.

    Args:
        dt: between frames [s].
    """
    is_same, step = placed.is_same, np.diff(placed.offset)
    width = placed.half_width[:-1] + placed.half_width[1:]
    side = np.where(is_same & (np.abs(step) > width / 2), -np.sign(step), 0.0)
    drift = np.where(is_same, step + side * width, 0.0) / dt  # [m/s], to the left
    smooth = np.convolve(drift, np.ones(SMOOTHED) / SMOOTHED, mode="same")
    number, run = (np.concatenate([[0], np.cumsum(part)]) for part in (side, ~is_same))
    inside = np.flatnonzero(np.abs(placed.offset) < placed.half_width - INSIDE)
    before, after = inside[:-1], inside[1:]
    changed = (run[before] == run[after]) & (number[before] != number[after])
    rows, sides, speeds = [], [], []
    reach = round(CHANGE_TIME / dt)
    for first, last in zip(before[changed].tolist(), after[changed].tolist(), strict=True):
        way = int(np.sign(number[last] - number[first]))
        crossing = first + int(np.flatnonzero(side[first:last] == way)[0]) + 1
        near = slice(max(crossing - reach, 0), crossing + reach)
        rows.append(crossing)
        sides.append(way)
        speeds.append(float((smooth * way)[near][run[:-1][near] == run[crossing]].max()))
    return LaneChanges(np.array(rows, dtype=int), np.array(sides, dtype=int), np.array(speeds, dtype=float))


def flow_cells(
    recording: Recording, placed: Placed, lanes: Lanes
) -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, " C"]]:
    """Returns density [vehicles per km] and speed [m/s] in cells of a lane, by Edie's definitions.

    A cell's density is the time that vehicles spent in it over its area (length times time) as far as it
    was recorded, its speed the distance that they drove over that time.
    """
    dt, num_steps = recording.dt, round(CELL_TIME / recording.dt)
    num_times = recording.num_frames // num_steps
    per_lane = int(np.ceil(lanes.along.max() / CELL_LENGTH)) + 1
    point_cell = lanes.lane * per_lane + (lanes.along / CELL_LENGTH).astype(int)
    num_cells = int(point_cell.max()) + 1
    area = np.zeros((num_cells, num_times))
    first, last = recording.coverage[: num_times * num_steps].reshape(num_times, num_steps, 2).mean(1).T
    whole = np.zeros(num_cells)
    for cell in np.unique(point_cell).tolist():
        x, along = lanes.point[point_cell == cell, 0], lanes.along[point_cell == cell]
        whole[cell] = np.ptp(along)
        recorded = np.minimum(x.max(), last) - np.maximum(x.min(), first)
        area[cell] = whole[cell] * np.clip(recorded / max(np.ptp(x), 1e-6), 0.0, 1.0) * CELL_TIME
    cell = placed.lane * per_lane + np.clip(placed.along / CELL_LENGTH, 0, per_lane - 1).astype(int)
    known = (placed.frame < num_times * num_steps) & (cell < num_cells)
    at = cell[known] * num_times + placed.frame[known] // num_steps
    spent, driven = (
        np.bincount(at, weight, num_cells * num_times).reshape(area.shape) * dt
        for weight in (None, placed.speed[known])
    )
    kept = (area >= LEAST_AREA * CELL_LENGTH * CELL_TIME) & (spent > 0)
    return spent[kept] / area[kept] * 1000.0, driven[kept] / spent[kept]


def speed_curve(flow: Flow) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, "K 3"]]:
    """Returns densities and the speeds there: mean, 10 % and 90 % quantile; only where enough was seen."""
    number = (flow.cell_density / DENSITY_BIN).astype(int)
    bins = [one for one in np.unique(number) if (number == one).sum() >= LEAST_CELLS]
    speeds = [flow.cell_speed[number == one] for one in bins]
    curve = [[one.mean(), *np.quantile(one, (0.1, 0.9))] for one in speeds]
    return (np.array(bins, dtype=float) + 0.5) * DENSITY_BIN, np.array(curve).reshape(len(bins), 3)


def distances(flow: Flow, other: Flow) -> dict[str, float]:
    """Returns how far two kinds of traffic differ; lower is more alike.

    For each of `DISTRIBUTIONS` Wasserstein's distance, in its unit, and Kolmogorov's and Smirnov's (the
    largest difference of the distribution functions), left out where one of them has no samples; for the
    speed-density curve the mean difference in speed in the bins that both have, weighted by the cells of
    `flow` [m/s], and the share of its cells that are in such bins; for lane changes the ratio of the rates.
    """
    found: dict[str, float] = {}
    for name in DISTRIBUTIONS:
        ours, theirs = getattr(flow, name), getattr(other, name)
        if len(ours) and len(theirs):
            found[f"{name}_wasserstein"] = float(wasserstein_distance(ours, theirs))
            found[f"{name}_ks"] = float(ks_2samp(ours, theirs).statistic)
    found |= _curve_distance(flow, other)
    if flow.change_rate.estimate > 0:
        found["change_rate_ratio"] = other.change_rate.estimate / flow.change_rate.estimate
    return found


def _measure(recording: Recording) -> Flow:
    dt = recording.dt
    lanes = Lanes.of(recording.lane_map)
    placed = place(recording, lanes)
    every = max(round(SAMPLE_TIME / dt), 1)
    sampled = placed.frame % every == 0
    front = leader(placed)
    gap = placed.along[front] - placed.along - (placed.length[front] + placed.length) / 2
    follows = sampled & (front >= 0) & (placed.ahead >= REACH) & (gap < REACH)
    is_fast = placed.speed > FOLLOWING_SPEED
    later = np.arange(len(sampled) - every)[sampled[: len(sampled) - every]]
    lasting = (placed.vehicle[later + every] == placed.vehicle[later]) & (
        placed.frame[later + every] - placed.frame[later] == every
    )
    start = later[lasting]
    density, speed = flow_cells(recording, placed, lanes)
    return Flow(
        cell_density=density,
        cell_speed=speed,
        time_gap=gap[follows & is_fast] / placed.speed[follows & is_fast],
        low_speed_gap=gap[follows & ~is_fast],
        acceleration=(placed.speed[start + every] - placed.speed[start]) / (every * dt),
        speed=placed.speed[sampled],
        lateral_speed=lane_changes(placed, dt).lateral_speed,
        kilometres=float(placed.speed.sum() * dt / 1000.0),
    )


def _curve_distance(flow: Flow, other: Flow) -> dict[str, float]:
    (at, ours), (there, theirs) = speed_curve(flow), speed_curve(other)
    shared = np.intersect1d(at, there)
    weight = np.array([(np.abs(flow.cell_density - one) < DENSITY_BIN / 2).sum() for one in shared])
    found = {"speed_density_share": float(weight.sum() / max(len(flow.cell_density), 1))}
    if len(shared):
        difference = np.abs(ours[np.isin(at, shared), 0] - theirs[np.isin(there, shared), 0])
        found["speed_density_error"] = float((weight * difference).sum() / weight.sum())
    return found
