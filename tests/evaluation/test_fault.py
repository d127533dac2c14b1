"""Who is at fault: cases worked out by hand."""

import numpy as np
import pytest

from worldmodel.evaluation.fault import Fault, fault, fault_of_tracks
from worldmodel.scene import LaneMap

DT, REACH = 0.1, 2.0


def steps(num: int = 30, *, ego: float = 0.0, other: float = 0.0, when: slice = slice(None)) -> np.ndarray:
    """Speeds across the lane: constant in some of the steps, zero elsewhere."""
    found = np.zeros((num, 2))
    found[when] = ego, other
    return found


@pytest.mark.parametrize(
    ("offset", "sideways", "expected"),
    [
        # In line all the time: the one behind.
        ((5.0, 0.3), steps(), Fault.EGO),
        ((-5.0, 0.3), steps(), Fault.OTHER),
        # Cut in 2.5 to 0.5 s ago, over 4 m, from either side: the one who came, wherever it is hit.
        ((-5.0, 0.0), steps(ego=2.0, when=slice(5, 25)), Fault.EGO),
        ((-5.0, 0.0), steps(ego=-2.0, when=slice(5, 25)), Fault.EGO),
        ((5.0, 0.0), steps(other=2.0, when=slice(5, 25)), Fault.OTHER),
        # The one behind steers into the lane of the one ahead and hits it.
        ((5.0, 0.0), steps(ego=-2.0, when=slice(5, 25)), Fault.EGO),
        ((-5.0, 0.0), steps(other=2.0, when=slice(5, 25)), Fault.OTHER),
        # Cut in longer than three seconds ago: the one behind.
        ((-5.0, 0.0), steps(60, ego=2.0, when=slice(0, 20)), Fault.OTHER),
        # Side by side, the contact is when they come into line.
        ((0.5, 1.9), steps(ego=1.0, when=slice(10, 30)), Fault.EGO),
        ((0.5, 1.9), steps(other=-1.0, when=slice(10, 30)), Fault.OTHER),
        ((0.5, -1.9), steps(other=1.0, when=slice(10, 30)), Fault.OTHER),
        # Both change to the lane between them; one of them faster than twice as fast.
        ((0.5, 1.9), steps(ego=1.0, other=-1.0, when=slice(20, 30)), Fault.BOTH),
        ((0.5, 1.9), steps(ego=1.0, other=-0.4, when=slice(20, 30)), Fault.EGO),
        # Both move to the left, the ego faster: it comes, the other gives way.
        ((0.5, 1.9), steps(ego=1.5, other=0.5, when=slice(10, 30)), Fault.EGO),
        # A contact in the first step after the hand-over.
        ((4.0, 0.0), steps(0), Fault.EGO),
    ],
)
def test_who_is_at_fault(offset: tuple[float, float], sideways: np.ndarray, expected: Fault) -> None:
    assert fault(np.array(offset), REACH, sideways, dt=DT) == expected


def test_the_rule_is_the_same_for_both() -> None:
    rng = np.random.default_rng(0)
    swapped = {Fault.EGO: Fault.OTHER, Fault.OTHER: Fault.EGO, Fault.BOTH: Fault.BOTH}
    found = set()
    for _ in range(200):
        offset, sideways = rng.uniform([-5, -2], [5, 2]), rng.uniform(-2, 2, (30, 2))
        one = fault(offset, REACH, sideways, dt=DT)
        assert fault(-offset, REACH, sideways[:, ::-1], dt=DT) == swapped[one]
        # Left and right alike.
        mirrored = fault(offset * [1, -1], REACH, -sideways, dt=DT)
        assert mirrored == one
        found.add(one)
    assert found == set(swapped)


def test_tracks_say_what_is_sideways() -> None:
    """The other changes lanes ahead of the ego, which then reaches it: by hand, its heading is 0.1."""
    lane_map = LaneMap.straight(length=300.0, num_lanes=2, lane_width=4.0)
    time = DT * np.arange(31)
    zero = np.zeros_like(time)
    ego = np.stack([100 + 20 * time, zero + 2, zero, zero + 20], axis=1)
    drift = np.where(time < 2.0, 15 * np.sin(0.133), 0.0)
    y = 6 - np.concatenate([[0.0], np.cumsum(drift[:-1] * DT)])
    other = np.stack([120 + 15 * time, y, np.where(time < 2.0, -0.133, 0.0), zero + 15], axis=1)
    sizes = np.array([[5.0, 2.0], [5.0, 2.0]])
    assert abs(y[-1] - 2.0) < 0.1
    assert fault_of_tracks(ego, other, sizes, lane_map=lane_map, dt=DT) == Fault.OTHER
    assert fault_of_tracks(other, ego, sizes, lane_map=lane_map, dt=DT) == Fault.EGO
    other[:, 1:3] = [2.0, 0.0]
    assert fault_of_tracks(ego, other, sizes, lane_map=lane_map, dt=DT) == Fault.EGO
