"""Labels of scenes laid out by hand."""

import numpy as np
import pytest

from worldmodel.evaluation.scene_label import LABELS, scene_labels
from worldmodel.scene import LaneMap, Recording, Tracks


def recording(*vehicles: tuple[float, float, float]) -> Recording:
    """Vehicles of 4 x 2 m by x, y and speed, driving along a road of three lanes; the first is the ego."""
    state = np.array([[[x, y, 0.0, speed]] for x, y, speed in vehicles])
    num = len(vehicles)
    return Recording(
        "hand",
        Tracks(np.arange(num), state, np.tile([4.0, 2.0], (num, 1)), np.ones((num, 1), dtype=bool)),
        LaneMap.straight(length=400.0, num_lanes=3, lane_width=3.7),
        0.1,
        np.array([[0.0, 400.0]]),
    )


def labels(*vehicles: tuple[float, float, float]) -> dict[str, float]:
    found = scene_labels([recording(*vehicles)], np.array([[0, 0, 0]]))[0]
    return dict(zip(LABELS, found.tolist(), strict=True))


MIDDLE = 5.55
EGO = (200.0, MIDDLE + 0.3, 20.0)


def test_alone_everything_is_far() -> None:
    found = labels(EGO)
    assert found["gap_ahead"] == found["gap_behind"] > 30
    assert found["lateral_offset"] == pytest.approx(0.3, abs=1e-3)
    assert [found[name] for name in ("num_vehicles", "left_occupied", "right_occupied", "urgency")] == [0] * 4


def test_gaps_are_between_bumpers_and_urgency_is_closing_speed_over_gap() -> None:
    found = labels(EGO, (214.0, MIDDLE, 15.0), (180.0, MIDDLE, 30.0))
    assert found["gap_ahead"] == pytest.approx(10.0)
    assert found["gap_behind"] == pytest.approx(16.0)
    assert found["urgency"] == pytest.approx(0.5)
    assert found["num_vehicles"] == 2


def test_who_drives_beside_is_in_a_neighbouring_lane() -> None:
    left, right = (203.0, MIDDLE + 3.7, 20.0), (196.0, MIDDLE - 3.7, 20.0)
    found = labels(EGO, left)
    assert (found["left_occupied"], found["right_occupied"]) == (1, 0)
    found = labels(EGO, right, (260.0, MIDDLE + 3.7, 20.0))
    assert (found["left_occupied"], found["right_occupied"]) == (0, 1)
    assert found["gap_ahead"] > 30 and found["num_vehicles"] == 1
