"""NGSIM's two layouts, and every fault that the files are known to have."""

import logging
from pathlib import Path

import numpy as np
import pytest

from tests.data.readers.factories import PORTAL, ZERO_MS, ngsim_row, ngsim_rows, write_portal, write_text
from worldmodel.data import RecordingError
from worldmodel.data.readers import read_ngsim
from worldmodel.scene import LaneMap

FIXTURES = Path(__file__).parents[1] / "fixtures"
FOOT = 0.3048


def test_text_by_hand(tmp_path: Path) -> None:
    (recording,) = read_ngsim(write_text(tmp_path / "trajectories.txt", ngsim_rows()), location="us-101")
    assert recording.name == "us-101-1-1"
    assert recording.dt == pytest.approx(0.1)
    assert recording.start == pytest.approx((ZERO_MS + 1000) / 1000)
    assert recording.tracks.ids.tolist() == [1, 2]
    assert recording.tracks.valid.shape == (2, 20) and recording.tracks.valid.all()
    np.testing.assert_allclose(recording.tracks.size, [[15 * FOOT, 6 * FOOT]] * 2)
    # Frame 10: the front is at 100 ft, the centre 7.5 ft behind. Vehicle 2 is 18 ft right of the edge.
    np.testing.assert_allclose(
        recording.tracks.state[1, 0], [92.5 * FOOT, -18 * FOOT, 0.0, 100 * FOOT], atol=1e-12
    )


def test_text_with_commas_and_the_portal_hold_the_same(tmp_path: Path) -> None:
    rows = ngsim_rows()
    (one,) = read_ngsim(write_text(tmp_path / "a.txt", rows), location="us-101")
    (two,) = read_ngsim(write_text(tmp_path / "b.txt", rows, separator=","), location="us-101")
    (three,) = read_ngsim(write_portal(tmp_path / "c.csv", rows))
    for other in (two, three):
        assert other.name == one.name
        np.testing.assert_array_equal(other.tracks.state, one.tracks.state)
        np.testing.assert_array_equal(other.tracks.ids, one.tracks.ids)


def test_portal_quirks_change_nothing(tmp_path: Path) -> None:
    rows = ngsim_rows()
    (plain,) = read_ngsim(write_portal(tmp_path / "a.csv", rows))
    shuffled = [rows[k] for k in np.random.default_rng(0).permutation(len(rows))]
    quirky = [row | {"total": "1,020", "time": f"{row['time']:,}"} for row in shuffled]
    path = write_portal(tmp_path / "b.csv", quirky, header=PORTAL.lower(), bom=True)
    (other,) = read_ngsim(path)
    np.testing.assert_array_equal(other.tracks.state, plain.tracks.state)


def test_the_real_portal_rows_are_understood_up_to_their_site() -> None:
    path = FIXTURES / "ngsim_portal_peachtree_12_rows.csv"
    with pytest.raises(
        RecordingError, match=r"row 2: location 'peachtree', expected i-80 or us-101"
    ) as caught:
        read_ngsim(path)
    assert caught.value.row == 2 and caught.value.path == path
    with pytest.raises(RecordingError, match="no row of location 'i-80'"):
        read_ngsim(path, location="i-80")


def test_a_site_can_be_chosen_from_a_mixed_file(tmp_path: Path) -> None:
    rows = ngsim_rows((1,)) + [row | {"location": "peachtree"} for row in ngsim_rows((2,))]
    rows += [row | {"location": "i-80"} for row in ngsim_rows((3,))]
    path = write_portal(tmp_path / "mixed.csv", rows)
    (recording,) = read_ngsim(path, location="i-80")
    assert recording.name == "i-80-1-1" and recording.tracks.ids.tolist() == [3]
    with pytest.raises(RecordingError, match="row 22: location 'peachtree'"):
        read_ngsim(path)


def test_repeated_lines_count_once_and_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = ngsim_rows()
    rows += [rows[3], rows[5] | {"y": 999.0}]  # one exact, one that says something else
    with caplog.at_level(logging.WARNING):
        (recording,) = read_ngsim(write_portal(tmp_path / "a.csv", rows))
    assert "2 lines repeat" in caplog.text
    (clean,) = read_ngsim(write_portal(tmp_path / "b.csv", rows[:-2]))
    np.testing.assert_array_equal(recording.tracks.state, clean.tracks.state)


def test_a_number_used_again_is_another_vehicle(tmp_path: Path) -> None:
    rows = [ngsim_row(1, frame, total=5) for frame in range(10, 15)]
    rows += [ngsim_row(1, frame, total=6, y=50.0) for frame in range(15, 21)]  # another Total_Frames
    rows += [ngsim_row(1, frame, total=6, y=90.0) for frame in range(25, 28)]  # a gap
    (recording,) = read_ngsim(write_text(tmp_path / "a.txt", rows), location="i-80")
    assert recording.tracks.ids.tolist() == [1, 100_001, 200_001]
    assert [run[1:] for run in recording.tracks.runs()] == [(0, 5), (5, 11), (15, 18)]


def test_periods_become_recordings_with_numbers_of_their_own(tmp_path: Path) -> None:
    later = [row | {"time": int(row["time"]) + 900_000} for row in ngsim_rows((1,))]
    recordings = read_ngsim(write_portal(tmp_path / "a.csv", later + ngsim_rows((1,))))
    assert [one.name for one in recordings] == ["us-101-1-1", "us-101-2-1"]
    assert [one.tracks.ids.tolist() for one in recordings] == [[1], [10_000_001]]
    assert recordings[1].start - recordings[0].start == pytest.approx(900.0)


def test_long_periods_come_in_pieces(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", ngsim_rows((1,), range(25)))
    recordings = read_ngsim(path, location="i-80", piece=1.0)
    assert [one.name for one in recordings] == ["i-80-1-1", "i-80-1-2", "i-80-1-3"]
    assert [one.num_frames for one in recordings] == [10, 10, 5]
    assert recordings[2].start - recordings[0].start == pytest.approx(2.0)
    np.testing.assert_allclose(recordings[1].tracks.state[0, 0, 0], 92.5 * FOOT)


def test_lanes_are_laid_through_their_vehicles(tmp_path: Path) -> None:
    (recording,) = read_ngsim(write_text(tmp_path / "a.txt", ngsim_rows((1, 2, 3))), location="i-80")
    centres = [one.left[0, 1] / 2 + one.right[0, 1] / 2 for one in recording.lane_map.lanelets]
    np.testing.assert_allclose(centres, [-6 * FOOT, -18 * FOOT, -30 * FOOT])
    assert recording.lane_map.contains(recording.tracks.state[..., :2].reshape(-1, 2)).all()
    road = LaneMap.straight(length=100.0, num_lanes=2)
    assert read_ngsim(tmp_path / "a.txt", lane_map=road)[0].lane_map is road


def test_headings_come_from_the_path_and_stand_still_with_the_car(tmp_path: Path) -> None:
    # Right by 1 ft for every 10 ft ahead, then at rest.
    moving = [ngsim_row(1, frame, x=6.0 + frame) for frame in range(10, 30)]
    resting = [
        moving[-1] | {"frame": frame, "time": ZERO_MS + 100 * frame, "speed": 0.0} for frame in range(30, 60)
    ]
    (recording,) = read_ngsim(write_text(tmp_path / "a.txt", moving + resting), location="i-80")
    np.testing.assert_allclose(recording.tracks.state[0, :, 2], np.arctan2(-1, 10), atol=1e-9)


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (4, {"x": "wide"}, r"row 5: local_x is 'wide', expected a number"),
        (4, {"y": "nan"}, r"row 5: local_y is nan, expected a finite number"),
        (7, {"length": -15.0}, r"row 8: length is -4.572 \(SI\), expected 0.8 to 40; .* feet"),
        (7, {"width": 60.0}, r"row 8: width is 18.288"),
        (2, {"speed": 400.0}, r"row 3: speed is 121.92"),
        (2, {"time": 1118846979}, r"row 3: Global_Time is 1118846979, expected .*13 digits"),
        (2, {"frame": 3.5}, r"row 3: frame_id is 3.5, expected a whole number"),
        (9, {"vehicle": -1}, r"row 10: vehicle_id is -1"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: int, change: dict, message: str) -> None:
    rows = ngsim_rows()
    rows[row] |= change
    with pytest.raises(RecordingError, match=message) as caught:
        read_ngsim(write_text(tmp_path / "trajectories.txt", rows))
    assert str(tmp_path / "trajectories.txt") in str(caught.value)


def test_metres_are_refused(tmp_path: Path) -> None:
    rows = [row | {"length": 4.6, "width": 1.8} for row in ngsim_rows()]
    with pytest.raises(RecordingError, match=r"median length is 1.40 m, expected 2.5 to 9 m; .* feet"):
        read_ngsim(write_text(tmp_path / "a.txt", rows))


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(" ".join(["1"] * 24) + "\n")
    with pytest.raises(RecordingError, match="24 columns, the arterial layout"):
        read_ngsim(path)
    path.write_text("1 2 3\n")
    with pytest.raises(RecordingError, match="3 columns, expected the freeway layout's 18"):
        read_ngsim(path)
    path.write_text("frame,id,x,y\n1,2,3,4\n")
    with pytest.raises(RecordingError, match="no column 'vehicle_id', expected the portal's 25"):
        read_ngsim(path)
    path.write_text("")
    with pytest.raises(RecordingError, match="the file is empty"):
        read_ngsim(path)
    with pytest.raises(RecordingError, match="no such file"):
        read_ngsim(tmp_path / "missing.txt")


def test_files_cut_short_are_refused(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", ngsim_rows())
    path.write_text(path.read_text()[:-40])
    with pytest.raises(RecordingError, match=r"row 40: \d+ fields, expected 18; is the file cut short"):
        read_ngsim(path)
    path = write_portal(tmp_path / "a.csv", ngsim_rows())
    path.write_text(path.read_text()[:-40])
    with pytest.raises(RecordingError, match=r"row 41: \d+ fields, expected 25 as in the header"):
        read_ngsim(path)
