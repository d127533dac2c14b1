"""Splits: no frame twice, no test vehicle that was seen before, and files that say what is wrong."""

import json
from pathlib import Path

import pytest

from worldmodel.data import (
    RecordingError,
    Span,
    Split,
    load_split,
    make_recording,
    purge_shared,
    save_split,
    split_by_time,
)


def test_a_frame_is_in_one_part_only() -> None:
    with pytest.raises(ValueError, match="frames 50 to 60 of 'a' are in train and in val"):
        Split(train=(Span("a", 0, 60),), val=(Span("a", 50, 80),))
    with pytest.raises(ValueError, match="in train and in train"):
        Split(train=(Span("a", 0, 60), Span("a", 59, 80)))
    Split(train=(Span("a", 0, 60),), val=(Span("a", 60, 80),), test=(Span("b", 0, 60),))


@pytest.mark.parametrize(("first", "last"), [(-1, 5), (5, 5), (6, 5)])
def test_empty_spans_are_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= first < last"):
        Span("a", first, last)


def test_by_time_by_hand() -> None:
    recording = make_recording(0, 4, 200, name="a")
    split = split_by_time(recording, val=0.1, test=0.2, gap=1.0)
    assert split.train == (Span("a", 0, 120),)
    assert split.val == (Span("a", 130, 150),)
    # Everybody is there all the time, so nobody is left to drive in the test.
    assert split.test == (Span("a", 160, 200, (100, 101, 102, 103)),)
    with pytest.raises(ValueError, match="test holds no vehicle"):
        split.check([recording])
    only = split_by_time(recording, val=0.0, test=0.0)
    assert only == Split(train=(Span("a", 0, 200),))
    with pytest.raises(ValueError, match=r"a: val=0.5, .* leave nothing of 200 frames for training; lower"):
        split_by_time(recording, val=0.5, test=0.5)


def test_vehicles_seen_before_do_not_drive_in_the_test() -> None:
    # With a window, vehicles come and go: a part of them is seen in training.
    recording = make_recording(1, 30, 300, window=(300.0, 500.0), name="a")
    raw = Split(train=(Span("a", 0, 50),), val=(Span("a", 50, 100),), test=(Span("a", 100, 300),))
    with pytest.raises(ValueError, match=r"test vehicle \d+ of 'a' is also in training or validation"):
        raw.check([recording])
    split = purge_shared(raw, [recording])
    split.check([recording])
    valid, ids = recording.tracks.valid, recording.tracks.ids
    before = {int(one) for one in ids[valid[:, :100].any(axis=1)]}
    after = {int(one) for one in ids[valid[:, 100:].any(axis=1)]}
    assert set(split.test[0].exclude) == before & after != set()
    assert after - before  # somebody is left
    assert purge_shared(split, [recording]) == split


def test_equal_numbers_of_other_sources_are_other_vehicles() -> None:
    here, there = make_recording(0, 4, 50, name="here"), make_recording(1, 4, 50, name="there")
    raw = Split(train=(Span("here", 0, 50),), test=(Span("there", 0, 50),))
    assert purge_shared(raw, [here, there]).test[0].exclude == (100, 101, 102, 103)
    numbering = {"here": "one", "there": "two"}
    assert purge_shared(raw, [here, there], numbering=numbering).test[0].exclude == ()
    raw.check([here, there], numbering=numbering)


def test_a_split_must_fit_its_recordings() -> None:
    recording = make_recording(0, 4, 50, name="a")
    with pytest.raises(ValueError, match=r"names 'b', found \['a'\]"):
        Split(train=(Span("b", 0, 10),)).check([recording])
    with pytest.raises(ValueError, match="frames up to 60 of 'a', which has 50"):
        Split(train=(Span("a", 0, 60),)).check([recording])


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    split = Split(train=(Span("a", 0, 60),), val=(Span("a", 60, 70),), test=(Span("b", 5, 60, (3, 4)),))
    save_split(split, tmp_path / "split.json")
    assert load_split(tmp_path / "split.json") == split
    assert [one.name for one in tmp_path.iterdir()] == ["split.json"]


def test_bad_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    with pytest.raises(RecordingError, match="no such file; prepare the recordings first"):
        load_split(path)
    save_split(Split(train=(Span("a", 0, 60),)), path)
    good = json.loads(path.read_text())
    for text, message in (
        (path.read_text()[:-30], "not JSON"),
        ("[]", "not a split"),
        (json.dumps(good | {"version": 2}), "version 2, expected 1"),
        (json.dumps(good | {"train": [{"recording": "a"}]}), "not a valid split"),
        (
            json.dumps(good | {"val": [{"recording": "a", "first": 9, "last": 12, "exclude": []}]}),
            "expected each frame once",
        ),
    ):
        path.write_text(text)
        with pytest.raises(RecordingError, match=message):
            load_split(path)
