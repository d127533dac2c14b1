"""Populations that differ from another in one respect."""

import math
from dataclasses import fields

import pytest

from worldmodel.scene.traffic import MIXED, vary
from worldmodel.scene.traffic.population import DriverType


def changed(one: DriverType, other: DriverType) -> set[str]:
    return {part.name for part in fields(DriverType) if getattr(one, part.name) != getattr(other, part.name)}


def test_nothing_is_changed_by_default() -> None:
    assert vary() == MIXED


def test_speed_changes_desired_speeds_alone() -> None:
    for one, other in zip(vary(speed=0.5).types, MIXED.types, strict=True):
        assert changed(one, other) == {"desired_speed"}
        assert one.desired_speed.mean == 0.5 * other.desired_speed.mean
        assert one.desired_speed.std == 0.5 * other.desired_speed.std
    with pytest.raises(ValueError, match=r"speed=0\.0, expected a positive factor"):
        vary(speed=0.0)


def test_aggressiveness_changes_all_that_is_hasty_and_nothing_else() -> None:
    for one, other in zip(vary(aggressiveness=0.5).types, MIXED.types, strict=True):
        assert changed(one, other) == {"headway", "accel", "min_gain", "politeness", "safe_decel"}
        assert one.headway.mean == pytest.approx(math.exp(-0.5) * other.headway.mean)
        assert one.accel.mean == pytest.approx(math.exp(0.25) * other.accel.mean)
