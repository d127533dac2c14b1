"""CommonRoad in both dialects, windows stitched, and what is refused."""

import gzip
import math
from pathlib import Path

import numpy as np
import pytest

from tests.data.readers.factories import commonroad_text
from worldmodel.data import RecordingError
from worldmodel.data.readers import CENTRE, FRONT, read_scenario, read_windows
from worldmodel.data.readers.commonroad import stitch
from worldmodel.data.smooth import make_consistent

FIXTURES = Path(__file__).parents[1] / "fixtures"
STATES = [(step, 2.0 * step, 0.5, 0.0, 10.0) for step in range(5)]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("version", ["2020a", "2018b"])
def test_a_scenario_by_hand(tmp_path: Path, version: str) -> None:
    path = write(tmp_path / "a.xml", commonroad_text(states=STATES, version=version))
    recording = read_scenario(path, dt=0.2)
    assert recording.name == "TEST_Road-1_1_T-1" and recording.dt == pytest.approx(0.2)
    assert recording.tracks.ids.tolist() == [7]
    np.testing.assert_array_equal(recording.tracks.state[0], [one[1:] for one in STATES])
    np.testing.assert_array_equal(recording.tracks.size, [[4.0, 2.0]])
    assert recording.lane_map.bounds == (-50.0, -2.0, 200.0, 2.0)
    assert "made up" in recording.source


def test_the_meaning_of_a_position_is_the_callers_to_say(tmp_path: Path) -> None:
    states = [(step, 0.0, 2.0 * step, math.pi / 2, 10.0) for step in range(3)]
    path = write(tmp_path / "a.xml", commonroad_text(states=states))
    centre = read_scenario(path, point=CENTRE, dt=0.2).tracks.state[0, :, :2]
    front = read_scenario(path, point=FRONT, dt=0.2).tracks.state[0, :, :2]
    np.testing.assert_allclose(centre - front, [[0.0, 2.0]] * 3, atol=1e-12)  # half of 4 m, along y


def test_resampling_to_a_tenth_of_a_second(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xml", commonroad_text(states=STATES))
    recording = read_scenario(path)
    assert recording.num_frames == 9 and recording.dt == pytest.approx(0.1)
    np.testing.assert_allclose(recording.tracks.state[0, :, 0], np.arange(9.0))
    np.testing.assert_allclose(recording.tracks.state[0, :, 3], 10.0)


@pytest.mark.parametrize(
    ("name", "vehicles", "rows"),
    [("USA_US101-8_1_T-1.xml.gz", 27, 1427), ("USA_US101-7_2_T-1.2018b.xml.gz", 13, 416)],
)
def test_real_scenarios(name: str, vehicles: int, rows: int) -> None:
    recording = read_scenario(FIXTURES / name, point=FRONT)
    assert recording.tracks.num_vehicles == vehicles
    assert recording.tracks.valid.sum() == rows
    assert recording.lane_map.contains(recording.tracks.state[recording.tracks.valid][:, :2]).all()


def window(first: int, states: list) -> str:
    return commonroad_text(states=[(step, 2.0 * (first + step), 0.5, 0.0, 10.0) for step in states])


def test_windows_are_put_one_after_the_other(tmp_path: Path) -> None:
    # The clock restarts at 0 in each; the first is called 1_T-2 but holds steps 0 to 2.
    paths = [
        write(tmp_path / "C-X_3_T-5.xml", window(3, [0, 1, 2])),
        write(tmp_path / "C-X_1_T-2.xml", window(0, [0, 1, 2])),
    ]
    (recording,) = read_windows(paths, dt=0.2, name="x")
    assert recording.name == "x" and recording.tracks.valid.shape == (1, 6)
    np.testing.assert_allclose(recording.tracks.state[0, :, 0], 2.0 * np.arange(6))
    assert len(recording.lane_map.lanelets) == 1


def test_windows_need_their_steps_in_the_name(tmp_path: Path) -> None:
    text = window(0, [0, 1, 2])
    with pytest.raises(RecordingError, match="no steps in the file's name"):
        stitch([write(tmp_path / "a.xml", text)])
    with pytest.raises(RecordingError, match="3 steps, expected the 1 of its name"):
        stitch([write(tmp_path / "C-X_9_T-9.xml", text)])
    with pytest.raises(ValueError, match="no windows to stitch"):
        stitch([])


def test_windows_must_not_overlap(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"C-X_{k}_T-{k + 2}.xml", window(k, [0, 1, 2])) for k in (3, 4)]
    with pytest.raises(RecordingError, match="vehicle 7 appears twice"):
        stitch(paths)


def test_each_driving_direction_becomes_a_recording(tmp_path: Path) -> None:
    angle = 0.6
    there = [(k, 2.0 * k * math.cos(angle), 2.0 * k * math.sin(angle), angle, 10.0) for k in range(4)]
    back = [(k, *(-value for value in state[:2]), angle - math.pi, 10.0) for k, *state in there]
    both = commonroad_text(states=there).replace(
        "</commonRoad>", commonroad_text(states=back, vehicle=8).split("</lanelet>")[1]
    )
    recordings = read_windows([write(tmp_path / "C-X_0_T-3.xml", both)], dt=0.2, name="x")
    assert [one.name for one in recordings] == ["x-1", "x-2"]
    for one in recordings:
        np.testing.assert_allclose(one.tracks.state[0, :, 0], 2.0 * np.arange(4), atol=1e-9)
        np.testing.assert_allclose(one.tracks.state[0, :, 1:3], 0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<x>4.0</x>", "<x>nan</x>", "has position/point/x 'nan' at step 2, expected a finite number"),
        ("<x>4.0</x>", "<x>far</x>", "has position/point/x 'far' at step 2"),
        ("<exact>3</exact>", "<exact>1.5</exact>", "has a state at time 1.5, expected a whole number"),
        ("<exact>3</exact>", "<exact>2</exact>", "vehicle 7 appears twice in this frame"),
        (
            "<time><exact>1</exact></time>",
            "<time><intervalStart>1</intervalStart></time>",
            "has no time/exact, expected an exact number; intervals cannot be read",
        ),
        ("<length>4.0</length>", "<length>-4.0</length>", r"length is -4 \(SI\), expected 0.8 to 40"),
        ("<length>4.0</length>", "<length>13.1</length>", "median length is 13.10 m"),  # feet
        ("<velocity><exact>10.0", "<velocity><exact>1000.0", r"speed is 1000 \(SI\), expected 0 to 75"),
        ("rectangle", "polygon", "has no shape/rectangle/length"),
        ("<trajectory>", "<occupancySet></occupancySet><trajectory>", "has an occupancy set"),
        (
            'commonRoadVersion="2020a"',
            'commonRoadVersion="2031z"',
            "CommonRoad version 2031z, expected one of 2018b",
        ),
        ('timeStepSize="0.2"', 'timeStepSize="0"', "timeStepSize is '0', expected seconds"),
        ("<leftBound>", "<leftBound><point><x>1</x></point>", "lanelet 1 has no proper leftBound"),
        ("dynamicObstacle", "staticObstacle", "no dynamic obstacle"),
    ],
)
def test_bad_scenarios_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = commonroad_text(states=STATES)
    assert old in text
    path = write(tmp_path / "a.xml", text.replace(old, new))
    with pytest.raises(RecordingError, match=message) as caught:
        read_scenario(path)
    assert str(path) in str(caught.value)


def test_the_line_of_an_obstacle_is_given(tmp_path: Path) -> None:
    text = commonroad_text(states=STATES).replace("<x>4.0</x>", "<x>nan</x>")
    with pytest.raises(RecordingError, match="dynamicObstacle 7") as caught:
        read_scenario(write(tmp_path / "a.xml", text))
    assert "dynamicObstacle id" in text.splitlines()[caught.value.row - 1]


def test_broken_files_are_refused(tmp_path: Path) -> None:
    text = commonroad_text(states=STATES)
    with pytest.raises(RecordingError, match="not a whole XML file"):
        read_scenario(write(tmp_path / "a.xml", text[: len(text) // 2]))
    with pytest.raises(RecordingError, match="not a whole XML file"):
        read_scenario(write(tmp_path / "b.xml", "frame,id\n1,2\n"))
    with pytest.raises(RecordingError, match="the root is <osm>, expected <commonRoad>"):
        read_scenario(write(tmp_path / "c.xml", "<osm></osm>"))
    packed = tmp_path / "d.xml.gz"
    packed.write_bytes(gzip.compress(text.encode())[:200])
    with pytest.raises(RecordingError, match="cannot be unpacked"):
        read_scenario(packed)
    with pytest.raises(RecordingError, match="no such file"):
        read_scenario(tmp_path / "missing.xml")


@pytest.mark.data
@pytest.mark.slow
def test_mona_stitches_without_a_gap(shared_data: Path) -> None:
    paths = sorted((shared_data / "mona_east").glob("*.xml.gz"))
    recording = stitch(paths, name="mona-east")
    assert len(paths) == 30
    assert recording.tracks.valid.sum() == 92_058
    assert recording.tracks.num_vehicles == 934
    assert len(recording.tracks.runs()) == 934  # one contiguous run each
    assert recording.num_frames == 2400 and recording.dt == pytest.approx(0.2)


@pytest.mark.data
@pytest.mark.slow
def test_mona_is_followed_closely_in_two_directions(shared_data: Path) -> None:
    paths = sorted((shared_data / "mona_east").glob("*.xml.gz"))
    recorded = read_windows(paths, name="mona")
    assert [one.tracks.num_vehicles for one in recorded] == [481, 453]
    for one in recorded:
        found = make_consistent(one)
        moved = np.linalg.norm((found.tracks.state - one.tracks.state)[one.tracks.valid][:, :2], axis=1)
        # With the first states at their wrong times these were 0.65 m and 43 m.
        assert np.percentile(moved, 99) < 0.25 and moved.max() < 2.0
        assert one.lane_map.contains(found.tracks.state[one.tracks.valid][:, :2]).mean() > 0.997
