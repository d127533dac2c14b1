"""Which episodes a protocol makes."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tests.envs.factories import make_straight
from worldmodel.data.sample import us101
from worldmodel.data.smooth import make_consistent
from worldmodel.data.split import Span
from worldmodel.evaluation.metric import first_hit
from worldmodel.evaluation.protocol import PPUU, V1, Protocol, episodes, pieces, spread

EVERYWHERE = -1e9


def test_hand_overs_follow_every_second_while_three_seconds_are_left():
    found = episodes([make_straight([(20.0, 2.0, 10.0)], num_frames=72)])
    assert [(one.start, one.last) for one in found] == [(19, 71), (29, 71), (39, 71)]
    assert found[0].human_distance == pytest.approx(52.0)
    assert found[0].history == 20


def test_the_edge_ends_an_episode_and_makes_short_ones_drop_out():
    found = episodes([make_straight([(20.0, 2.0, 5.0)], num_frames=300, length=100.2)])
    assert {one.last for one in found} == {89}
    assert [one.start for one in found] == [19, 29, 39, 49, 59]


def test_spans_cut_time_and_exclude_vehicles():
    recording = make_straight([(20.0, 2.0, 10.0), (60.0, 2.0, 10.0)], num_frames=100)
    found = episodes([recording], [Span("straight", 30, 90, (10,))])
    assert {one.vehicle_id for one in found} == {11}
    assert (found[0].start, found[-1].last) == (49, 89)
    with pytest.raises(ValueError, match="span of 'elsewhere'"):
        episodes([recording], [Span("elsewhere", 0, 9)])


def test_ppuu_hands_each_vehicle_over_once_and_only_those_that_reach_the_mark():
    fast_and_slow = make_straight([(20.0, 2.0, 12.0), (20.0, 6.0, 3.0)], num_frames=150, length=200.0)
    found = episodes([fast_and_slow], protocol=PPUU)
    assert [(one.vehicle, one.start, one.last) for one in found] == [(0, 19, 149)]


@pytest.mark.parametrize(("overlap", "is_hit"), [(0.45, False), (0.55, True)])
@pytest.mark.parametrize("axis", [0, 1])
def test_ppuus_collision_is_a_car_within_the_egos_box_less_a_metre(axis: int, overlap: float, is_hit: bool):
    """Half a metre off each side of the ego, nothing off the other: they may overlap by that much."""
    size = torch.tensor([5.0, 2.0])
    other = torch.zeros(1, 1, 5)
    other[..., axis], other[..., 3:] = size[axis] - overlap, size
    ego = torch.cat([torch.zeros(1, 3), size[None]], dim=1)
    hit, _ = first_hit(ego, other, torch.ones(1, 1, dtype=torch.bool), margin=PPUU.shrink)
    assert bool(hit) == is_hit == bool(other[0, 0, axis] - size[axis] / 2 < size[axis] / 2 - 0.5)


def test_the_key_tells_protocols_apart():
    assert Protocol().key == V1.key != PPUU.key
    assert replace(V1, shrink=0.2).key != V1.key


def test_nothing_to_drive_is_an_error():
    with pytest.raises(ValueError, match=r"no vehicle has 2.0 s of history and then 3.0 s"):
        episodes([make_straight([(20.0, 2.0, 10.0)], num_frames=40)])


def test_some_episodes_are_of_every_recording_and_every_scene():
    recordings = [make_consistent(us101("B"))]  # of two scenes
    recordings += [make_straight([(20.0, 2.0, v), (60.0, 6.0, v)], num_frames=120) for v in (9.0, 10.0)]
    recordings = [replace(one, name=str(number)) for number, one in enumerate(recordings)]
    found = episodes(recordings)

    def scenes(some):
        return {(one.recording, int(pieces(recordings[one.recording])[one.start])) for one in some}

    few = spread(found, 40)
    assert len(few) == len(set(few)) == 40 and few[0] == found[0] and few[-1] == found[-1]
    assert scenes(few) == scenes(found) and len(scenes(found)) > 3
    assert scenes(found[:40]) != scenes(found)
    assert [found.index(one) for one in few] == sorted(found.index(one) for one in few)
    gaps = {b - a for a, b in pairwise(found.index(one) for one in few)}
    assert max(gaps) - min(gaps) <= 1
    assert spread(found, None) == spread(found, len(found) + 1) == found
    with pytest.raises(ValueError, match="0 episodes, expected at least one"):
        spread(found, 0)


def test_us101_has_as_many_episodes_as_were_counted_when_it_was_cut():
    a, b = make_consistent(us101("A")), make_consistent(us101("B"))
    shared = tuple(sorted(set(a.tracks.ids.tolist()) & set(b.tracks.ids.tolist())))
    span = [Span(b.name, 0, b.num_frames, shared)]
    assert len(shared) == 31
    wherever = replace(V1, edge_margin=EVERYWHERE)
    assert len(episodes([b], span, protocol=wherever)) == 183
    assert len(episodes([b], span, protocol=replace(wherever, repeat=2.0))) == 97
    assert len(episodes([b], span, protocol=replace(wherever, repeat=None))) == 49
    assert len(episodes([b], span)) == 111
