"""The shipped recording: its numbers, its licences, and the demo's split."""

import numpy as np
import pytest

from worldmodel.data import us101, us101_split
from worldmodel.data.sample import FOLDER, VAL_FRAMES


def test_the_blocks_by_their_numbers() -> None:
    one, two = us101("A"), us101("B")
    assert (one.name, one.tracks.num_vehicles, int(one.tracks.valid.sum()), one.num_frames) == (
        "us101-A",
        93,
        13_431,
        418,
    )
    assert (two.name, two.tracks.num_vehicles, int(two.tracks.valid.sum()), two.num_frames) == (
        "us101-B",
        95,
        5_841,
        240,
    )
    assert two.start - one.start == pytest.approx(53.0)
    speed = one.tracks.state[one.tracks.valid][:, 3]
    assert 7.7 < speed.min() < 8.0


def test_other_blocks_are_not_shipped() -> None:
    with pytest.raises(ValueError, match="block 'C', expected 'A' or 'B'"):
        us101.__wrapped__("C")


def test_the_split_trains_on_a_and_tests_on_new_vehicles_of_b() -> None:
    split = us101_split()
    split.check([us101("A"), us101("B")])
    ids = us101("B").tracks.ids
    assert len(split.test[0].exclude) == 31
    assert len(set(ids.tolist()) - set(split.test[0].exclude)) == 64
    assert not set(us101("A").tracks.ids.tolist()) & (set(ids.tolist()) - set(split.test[0].exclude))


def test_validation_lies_between_two_pauses() -> None:
    present = us101("A").tracks.valid.any(axis=0)
    first, last = VAL_FRAMES
    assert present[first:last].all()
    assert not present[first - 12 : first].any() and not present[last : last + 21].any()
    assert us101("A").tracks.valid[:, first:last].sum() == 1_591


def test_rows_within_the_covered_stretch() -> None:
    for block in ("A", "B"):
        recording = us101(block)
        frame = np.nonzero(recording.tracks.valid)[1]
        x = recording.tracks.state[recording.tracks.valid][:, 0]
        first, last = recording.coverage[frame].T
        assert ((x >= first) & (x <= last)).mean() > 0.9


def test_licences_ship_with_the_files() -> None:
    notice = (FOLDER / "NOTICE.md").read_text()
    for words in (
        "ShareAlike 3.0",
        "ShareAlike 4.0",
        "FHWA",
        "Technical University of Munich",
        "ODbL",
        "OpenStreetMap",
    ):
        assert words in notice
    assert "Neither the name of the copyright holder" in (FOLDER / "LICENSE.TUM-BSD3.txt").read_text()
    assert {one.name for one in FOLDER.iterdir() if one.suffix == ".gz"} == {
        "us101_block_A.csv.gz",
        "us101_block_B.csv.gz",
        "us101_lanelets_common_frame.json.gz",
    }
