"""Lane changes that MOBIL would make, and others."""

from dataclasses import replace

import numpy as np
import pytest

from tests.evaluation.test_realism import LEFT, MIDDLE, make_rows, make_swerve
from worldmodel.evaluation.lane_motive import idm, motives
from worldmodel.scene import Recording
from worldmodel.scene.traffic import DriverType, Spread

DRIVER = DriverType(desired_speed=Spread(20.0), headway=Spread(1.0), gap=Spread(2.0), accel=Spread(1.5))


def make_change(others: list[tuple[float, float, float]]) -> Recording:
    """A car at 10 m/s from x = 10 m on that changes from the left lane to the middle one, and others."""
    change = make_swerve(np.interp(np.arange(60), [20, 50], [LEFT, MIDDLE]))
    rest = make_rows(others) if others else None
    tracks, parts = change.tracks, change.tracks if rest is None else rest.tracks
    if rest is None:
        return change
    joined = {
        name: np.concatenate([getattr(tracks, name), getattr(parts, name)])
        for name in ("state", "size", "valid")
    }
    return replace(change, tracks=replace(tracks, ids=np.arange(len(joined["valid"])), **joined))


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([(40.0, LEFT, 7.0)], True),  # slow ahead, free beside
        ([], False),  # free road: nothing to gain
        ([(40.0, LEFT, 7.0), (40.0, MIDDLE, 6.0)], False),  # slower still beside
        ([(40.0, LEFT, 7.0), (2.0, MIDDLE, 16.0)], False),  # the one behind would have to brake
    ],
)
def test_mobil_changes_where_it_pays_and_is_safe(
    others: list[tuple[float, float, float]], expected: bool
) -> None:
    assert motives(make_change(others), DRIVER).changed.tolist() == [expected]


def test_who_stays_is_asked_about_both_sides() -> None:
    # On the middle of three lanes behind a slow one; on the left lane alone.
    found = motives(make_rows([(20.0, MIDDLE, 10.0), (45.0, MIDDLE, 6.0)]), DRIVER)
    assert len(found.changed) == 0
    assert len(found.stayed) == 2 * 2 * 6  # drivers, sides, seconds
    assert 10 <= found.stayed.sum() <= 12  # the one behind, to either side, as long as he is behind


def test_a_polite_driver_minds_the_one_behind() -> None:
    recording = make_change([(40.0, LEFT, 7.0), (0.5, MIDDLE, 8.0)])
    assert motives(recording, DRIVER).changed.tolist() == [True]
    polite = replace(DRIVER, politeness=Spread(5.0))
    assert motives(recording, polite).changed.tolist() == [False]


def test_idm_by_hand() -> None:
    driver = replace(DRIVER, decel=Spread(6.0))
    # 2 + 5 + 10 m wanted, 10 * 3 / (2 sqrt(9)) more for closing in, of 44 m: a half.
    assert idm(driver, 10.0, 3.0, distance=44.0, body=5.0) == pytest.approx(1.5 * (1 - 1 / 16 - 1 / 4))
    assert idm(driver, 20.0, 0.0, distance=np.inf, body=0.0) == pytest.approx(0.0)
