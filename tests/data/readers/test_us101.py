"""Blocks of US-101: positions, coverage, the joined map, and bad files."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from worldmodel.data import RecordingError, us101
from worldmodel.data.readers import read_block
from worldmodel.data.readers.us101_road import join_maps
from worldmodel.data.sample import FOLDER
from worldmodel.scene import Recording

HEADER = "global_time_ms,vehicle_id,x,y,heading,v,length,width,scene"
START_MS = 1118846991500


def lanes(first: float, last: float, *, shift: float = 0.0) -> dict:
    """Two lanes of 3.5 m along x."""
    ys = [7.0 + shift, 3.5 + shift, 0.0 + shift]
    return {str(k): [[[x, y] for x in (first, last)] for y in ys[k : k + 2]] for k in range(2)}


def write_block(folder: Path, rows: list[str], scenes: dict | None = None) -> Path:
    path = folder / "us101_block_T.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    with gzip.open(folder / "us101_lanelets_common_frame.json.gz", "wt") as stream:
        json.dump({"scene_lanelets": scenes or {"S": lanes(0, 500)}}, stream)
    return path


def row(
    vehicle: int, frame: int, x: float, *, v: float = 10.0, y: float = 5.0, scene: str = "S", **other: str
) -> str:
    fields = {
        "t": START_MS + 100 * frame,
        "id": vehicle,
        "x": x,
        "y": y,
        "heading": 0.0,
        "v": v,
        "length": 4.0,
    }
    return ",".join(str(one) for one in (fields | {"width": 2.0, "scene": scene} | other).values())


def pair(num_frames: int = 11, **changes: object) -> list[str]:
    """Vehicles 1 at x = 10 + t and 2 at 100 + t (10 m/s), until x = 105 where the scene ends."""
    both = [row(k, f, x + f, **changes) for f in range(num_frames) for k, x in ((1, 10.0), (2, 100.0))]
    return [one for one in both if float(one.split(",")[2]) <= 105.0]


def test_a_block_by_hand(tmp_path: Path) -> None:
    (recording,) = read_block(write_block(tmp_path, pair()))
    assert recording.name == "us101-T" and recording.dt == pytest.approx(0.1)
    assert recording.start == pytest.approx(START_MS / 1000)
    assert recording.tracks.ids.tolist() == [1, 2]
    assert recording.tracks.valid.sum(axis=1).tolist() == [11, 6]
    # The file has the middle of the front edge; the box centre is 2 m behind.
    np.testing.assert_allclose(recording.tracks.state[0, 3], [11.0, 5.0, 0.0, 10.0])
    np.testing.assert_allclose(recording.tracks.size, [[4.0, 2.0]] * 2)
    assert "CC BY-SA" in recording.source and "ODbL" in recording.source


def test_the_covered_stretch_begins_where_the_first_left_out_vehicle_may_be(tmp_path: Path) -> None:
    (recording,) = read_block(write_block(tmp_path, pair()))
    # Nobody enters from behind: who was left out was behind 10 m and drives on with 10 m/s.
    np.testing.assert_allclose(recording.coverage[:, 0], 10.0 + np.arange(11))
    # The scene ends near 105; a box of 4 m that reaches into it but for its front is not recorded.
    assert np.ptp(recording.coverage[:, 1]) == 0.0
    assert 100.0 < recording.coverage[0, 1] <= 101.0


def test_gaps_in_time_are_frames_without_anybody(tmp_path: Path) -> None:
    later = [row(3, 30 + f, 50.0 + f, scene="L") for f in range(5)]
    path = write_block(tmp_path, pair(5) + later, {"S": lanes(0, 500), "L": lanes(0, 500)})
    (recording,) = read_block(path)
    assert recording.num_frames == 35
    assert recording.tracks.valid.any(axis=0).nonzero()[0].tolist() == [*range(5), *range(30, 35)]


def test_vehicles_come_back_after_a_gap(tmp_path: Path) -> None:
    rows = [one for one in pair() if not (one.startswith(str(START_MS + 300)) and ",1," in one)]
    (recording,) = read_block(write_block(tmp_path, rows))
    assert recording.tracks.runs()[:2] == [(0, 0, 3), (0, 4, 11)]


def test_stretches_that_touch_are_one_recording_and_others_are_not(tmp_path: Path) -> None:
    def block(far: float) -> tuple[Recording, ...]:
        rows = [
            row(k, f, x + f, scene=s)
            for f in range(5)
            for k, x, s in ((1, 10, "S"), (2, 100, "S"), (3, far, "L"))
        ]
        rows += [row(4, f, far + 100 + f, scene="L") for f in range(5)]
        scenes = {"S": lanes(0, 500), "L": lanes(0, 500)}
        return read_block(write_block(tmp_path, sorted(rows), scenes))

    (one,) = block(60.0)
    assert one.coverage[0, 0] == pytest.approx(10.0) and one.coverage[0, 1] > 150.0
    first, second = block(200.0)
    assert [first.name, second.name] == ["us101-T", "us101-T-2"]
    assert sorted([*first.tracks.ids, *second.tracks.ids]) == [1, 2, 3, 4]
    assert first.coverage[0, 1] < 200.0 <= second.coverage[0, 0]


def test_joined_maps_double_nothing_and_take_the_middle_of_each() -> None:
    def bounds(scene: dict) -> list:
        return [tuple(np.array(line) for line in pair) for pair in scene.values()]

    road = join_maps({"a": bounds(lanes(0, 100)), "b": bounds(lanes(60, 200, shift=0.5))})
    drawn = sum(np.ptp(one.left[:, 0]) for one in road.lanelets)
    assert drawn == pytest.approx(2 * 200.0, abs=1.0)
    # Both maps are 20 m from their own end at x = 80: there the road jumps by half a metre.
    query = road.query(np.array([[79.0, 5.25], [81.0, 5.75]]))
    np.testing.assert_allclose(query.offset, 0.0, atol=1e-6)


def test_a_ramp_that_only_one_map_knows_is_kept() -> None:
    def bounds(scene: dict) -> list:
        return [tuple(np.array(line) for line in pair) for pair in scene.values()]

    ramp = (np.array([[60.0, -3.0], [200.0, -3.0]]), np.array([[60.0, -6.0], [200.0, -6.0]]))
    road = join_maps({"a": bounds(lanes(0, 100)), "b": [*bounds(lanes(60, 200)), ramp]})
    assert road.contains(np.array([[61.0, -4.5], [100.0, -4.5], [199.0, -4.5]])).all()
    assert not road.contains(np.array([[50.0, -4.5]])).any()


@pytest.mark.parametrize("block", ["A", "B"])
def test_shipped_vehicles_are_on_the_road(block: str) -> None:
    recording = us101(block)
    centres = recording.tracks.state[recording.tracks.valid][:, :2]
    assert recording.lane_map.contains(centres).mean() > 0.999
    rings = sum(np.ptp(one.left[:, 0]) * 3.5 for one in recording.lane_map.lanelets)
    assert recording.lane_map.area.area == pytest.approx(rings, rel=0.05)


@pytest.mark.parametrize("block", ["A", "B"])
def test_shipped_rows_agree_with_a_plain_reading(block: str) -> None:
    """The file read line by line with the csv module; A's last seconds have 808 rows elsewhere."""
    path = FOLDER / f"us101_block_{block}.csv.gz"
    recordings = read_block(path)
    with gzip.open(path, "rt") as stream:
        rows = list(csv.DictReader(stream))
    assert sum(int(one.tracks.valid.sum()) for one in recordings) == len(rows)
    main = recordings[0]
    index = {int(number): k for k, number in enumerate(main.tracks.ids)}
    found = 0
    for one in rows:
        frame = round(float(one["global_time_ms"]) / 100 - main.start * 10)
        k = index[int(one["vehicle_id"])]
        if main.tracks.valid[k, frame]:
            x, y, heading, _ = main.tracks.state[k, frame]
            half = float(one["length"]) / 2
            assert x + half * np.cos(heading) == pytest.approx(float(one["x"]))
            assert y + half * np.sin(heading) == pytest.approx(float(one["y"]))
            found += 1
    assert found == main.tracks.valid.sum()


@pytest.mark.parametrize(
    ("number", "field", "value", "message"),
    [
        (3, 2, "ahead", r"row 5: x is 'ahead', expected a number"),
        (3, 2, "nan", r"row 5: x is nan, expected a finite number"),
        (3, 2, "", r"row 5: x is '', expected a number"),
        (3, 0, str(START_MS), r"row 5: global_time_ms is 1118846991500, expected not to run backwards"),
        (
            20,
            0,
            str(START_MS + 1050),
            r"row \d+: global_time_ms is 1118846992550, expected multiples of 100 ms",
        ),
        (3, 5, "-120", r"row 5: speed is 120 \(SI\), expected 0 to 75"),
        (3, 6, "-4", r"row 5: length is -4 \(SI\)"),
        (3, 1, "1", r"row 5: vehicle 1 appears twice in this frame"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, number: int, field: int, value: str, message: str) -> None:
    rows = pair(12)
    number = min(number, len(rows) - 1)
    fields = rows[number].split(",")
    fields[field] = value
    rows[number] = ",".join(fields)
    with pytest.raises(RecordingError, match=message):
        read_block(write_block(tmp_path, rows))


def test_feet_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"median length is 14.50 m, expected 2.5 to 9 m; .* m and m/s"):
        read_block(write_block(tmp_path, pair(length="14.5")))


def test_broken_files_are_refused(tmp_path: Path) -> None:
    path = write_block(tmp_path, pair())
    text = path.read_bytes()
    for broken, message in (
        (text[:-20], r"row 18: \d fields, expected 9 as in the header; was it cut short"),
        (text.replace(b"heading", b"course"), "row 1: no column 'heading'"),
        (HEADER.encode() + b"\n", "a header but no rows"),
        (b"", "the file is empty"),
        (gzip.compress(text)[:-30], "cannot be (read beyond this line|unpacked)"),
        (text.replace(b",S\n", b",Z\n"), "no lanelets of scene 'Z'"),
    ):
        path.write_bytes(broken)
        with pytest.raises(RecordingError, match=message):
            read_block(path)
    path.write_bytes(text)
    (tmp_path / "us101_lanelets_common_frame.json.gz").write_bytes(b"{}")
    with pytest.raises(RecordingError, match="not a lanelet file"):
        read_block(path)
    with pytest.raises(RecordingError, match="no such file"):
        read_block(tmp_path / "missing.csv")


@pytest.mark.data
def test_block_c_reads_like_the_others(shared_data: Path) -> None:
    recordings = read_block(shared_data / "us101" / "us101_block_C.csv.gz")
    assert sum(int(one.tracks.valid.sum()) for one in recordings) == 23_535
    ids = {int(number) for one in recordings for number in one.tracks.ids}
    assert len(ids) == 192
    assert len(ids - set(us101("B").tracks.ids.tolist())) == 154
    assert not ids & set(us101("A").tracks.ids.tolist())
