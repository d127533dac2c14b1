"""Which drives are shown: by rule, and told in words."""

from pathlib import Path

import pytest

from worldmodel.app.pictures import Drives, best_drives, ending, worst_failures
from worldmodel.data import make_recording
from worldmodel.evaluation.episode import EpisodeResult
from worldmodel.evaluation.protocol import Episode


def make_row(
    agent: str, vehicle: int, *, steps: int, outcome: str = "finished", side: str = "none"
) -> EpisodeResult:
    safe = outcome in ("finished", "time_out")
    return EpisodeResult(
        agent=agent, protocol="v1", recording="r", vehicle_id=vehicle, scene="r/0", first_frame=0, seed=0,
        steps=steps, outcome=outcome, safe=safe, success=outcome == "finished", distance=1.0,
        human_distance=1.0, min_ttc=1.0, mean_jerk=0.0, collision_side=side, hit_id=7,
        off_road=False, reverse=False, plan_ms=0.0,
    )  # fmt: skip


def make_drives(ours: list[EpisodeResult], rival: list[EpisodeResult]) -> Drives:
    episodes = [Episode(0, row.vehicle_id, row.vehicle_id, 0, 50, 1.0, 20) for row in ours]
    return Drives("ours", ["rival"], [*ours, *rival], episodes, [make_recording()], Path("none"))


def test_successes_where_the_rival_failed_come_first_and_each_vehicle_once() -> None:
    ours = [make_row("ours", vehicle, steps=steps) for vehicle, steps in ((1, 50), (2, 10), (2, 20), (3, 5))]
    rival = [make_row("rival", row.vehicle_id, steps=1) for row in ours]
    rival[3] = make_row("rival", 3, steps=1, outcome="off_road")
    drives = make_drives(ours, rival)
    assert best_drives(drives, num=3) == [3, 0, 2]
    assert best_drives(drives, num=1) == [3]
    assert worst_failures(drives, num=3) == []


def test_the_worst_failures_are_over_soonest() -> None:
    ours = [make_row("ours", v, steps=s, outcome=o) for v, s, o in (
        (1, 30, "collision"), (2, 5, "finished"), (3, 9, "off_road"), (1, 12, "collision"),
        (4, 1, "time_out"),
    )]  # fmt: skip
    assert worst_failures(
        make_drives(ours, [make_row("rival", r.vehicle_id, steps=1) for r in ours]), num=3
    ) == [2, 3]


@pytest.mark.parametrize(
    ("outcome", "side", "words"),
    [
        ("collision", "front", "ran into vehicle 7"),
        ("collision", "rear", "hit from behind by vehicle 7"),
        ("collision", "side", "touched vehicle 7 beside it"),
        ("off_road", "none", "left the road"),
        ("time_out", "none", "fell behind"),
        ("finished", "none", "arrived"),
    ],
)
def test_every_ending_has_words(outcome: str, side: str, words: str) -> None:
    assert ending(make_row("ours", 1, steps=1, outcome=outcome, side=side)) == words
