"""CommonRoad scenarios, XML 2020a and 2018b, plain or gzipped; consecutive windows are stitched.

Source: metres, m/s, radians, time in integer steps of `timeStepSize`. CommonRoad means the box centre by a
position; those who made scenarios of NGSIM's US-101 wrote the middle of the front edge: say so with
`point=FRONT`. States must be exact and along a trajectory: occupancy sets (scenarios `S-1`) and intervals are
refused. The planning problem's vehicle is not in the file, so each scenario lacks one; parked vehicles
(static obstacles) are left out.

The XML is read element by element with the standard library: commonroad-io would bring protobuf 3.20, older
than others need, and lxml and rtree.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, ParseError, iterparse
from zlib import error as ZlibError

import numpy as np

from worldmodel.data.error import RecordingError
from worldmodel.data.readers.assemble import Rows, centre_from_front, check_plausible, fold
from worldmodel.data.readers.table import open_bytes
from worldmodel.data.readers.transform import carriageways, drop_mistimed_starts, resample, seen_stretch
from worldmodel.scene import Lanelet, LaneMap, Recording

VERSIONS = ("2018b", "2020a")
STATE = ("position/point/x", "position/point/y", "orientation/exact", "velocity/exact")

Point = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Positions `(N, 2)`, headings, lengths -> box centres."""


def centre_from_centre(position: np.ndarray, heading: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Returns the positions: they are box centres."""
    return position


CENTRE: Point = centre_from_centre
"""Positions are box centres, as CommonRoad means them and MONA has them."""
FRONT: Point = centre_from_front
"""Positions are middles of the front edge, as in the scenarios made of NGSIM's US-101."""


@dataclass
class _Window:
    """What a file holds; `rows` are `vehicle, step, x, y, heading, speed, length, width, line`."""

    path: Path
    dt: float
    benchmark: str
    source: str
    lines: dict[str, int]
    lanelets: list[Lanelet] = field(default_factory=list)
    rows: list[tuple[float, ...]] = field(default_factory=list)


def read_scenario(
    path: str | Path, *, point: Point = CENTRE, dt: float = 0.1, name: str | None = None
) -> Recording:
    """Returns the recording in one scenario, resampled to `dt` [s], in the file's own axes.

    Args:
        point: what the file means by a position.
        name: of the recording; the benchmark's if not given.

    Raises:
        RecordingError: naming file and line.
    """
    return resample(_recording([_parse(Path(path))], [0], point=point, name=name), dt)


def read_windows(
    paths: Sequence[str | Path],
    *,
    point: Point = CENTRE,
    dt: float = 0.1,
    name: str | None = None,
) -> tuple[Recording, ...]:
    """Returns consecutive windows of one road stitched, one recording per driving direction, `+x` along it.

    The clock restarts in every window, so a file's first step is taken from its name: `..._160_T-239.xml.gz`
    holds steps 160 to 239. Vehicles keep their ids across windows; a first state at a wrong time is dropped.

    Args:
        point: what the files mean by a position.
        dt: of the recordings [s].
        name: of the recordings, `-1` and `-2` appended if there are two.

    Raises:
        RecordingError: naming file and line.
    """
    return carriageways(resample(drop_mistimed_starts(stitch(paths, point=point, name=name)), dt))


def stitch(paths: Sequence[str | Path], *, point: Point = CENTRE, name: str | None = None) -> Recording:
    """Returns consecutive windows as one recording, in the files' axes and at their time step."""
    if not paths:
        raise ValueError("no windows to stitch, expected at least one path; check the folder's name")
    windows = [_parse(Path(path)) for path in paths]
    for one in windows[1:]:
        if one.dt != windows[0].dt:
            raise RecordingError(
                one.path, None, f"time step {one.dt} s, expected {windows[0].dt} s as in the others"
            )
    return _recording(windows, [_first_step(one) for one in windows], point=point, name=name)


def _first_step(window: _Window) -> int:
    """Returns the number of a window's step 0, from the file's name."""
    found = re.search(r"_(\d+)_[TI]-(\d+)", window.path.name)
    if not found:
        raise RecordingError(
            window.path, None, "no steps in the file's name, expected '..._FIRST_T-LAST.xml'; rename it"
        )
    first, last = int(found[1]), int(found[2])
    longest = int(max(row[1] for row in window.rows))
    # Windows count from 1 in the first file's name, but from 0 everywhere else.
    start = first if first + longest <= last else last - longest
    if start < 0 or start not in (first, first - 1):
        raise RecordingError(
            window.path, None, f"{longest + 1} steps, expected the {last - first + 1} of its name; rename it"
        )
    return start


def _recording(
    windows: Sequence[_Window], starts: Sequence[int], *, point: Point, name: str | None
) -> Recording:
    zero = min(starts)
    parts = [_rows(one, start - zero, point) for one, start in zip(windows, starts, strict=True)]
    rows = parts[0] if len(parts) == 1 else _concatenate(parts)
    tracks = fold(rows, int(rows.frame.max()) + 1)
    lanelets = {
        one.left.tobytes() + one.right.tobytes(): one for window in windows for one in window.lanelets
    }
    return Recording(
        name or windows[0].benchmark,
        tracks,
        LaneMap(tuple(Lanelet(number, one.left, one.right) for number, one in enumerate(lanelets.values()))),
        windows[0].dt,
        seen_stretch(rows.state[:, 0], tracks.num_frames),
        start=zero * windows[0].dt,
        source=f"CommonRoad {windows[0].benchmark}: {windows[0].source}",
    )


def _rows(window: _Window, start: int, point: Point) -> Rows:
    table = np.array(window.rows)
    state = table[:, 2:6].copy()
    state[:, :2] = point(state[:, :2], state[:, 2], table[:, 6])
    vehicle, frame = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64) + start
    rows = Rows(window.path, table[:, 8].astype(np.int64), vehicle, frame, state, table[:, 6:8])
    check_plausible(rows, units="m and m/s")
    return rows


def _concatenate(parts: Sequence[Rows]) -> Rows:
    names = ("row", "vehicle", "frame", "state", "size")
    return Rows(
        parts[0].path.parent, *(np.concatenate([getattr(one, name) for one in parts]) for name in names)
    )


def _parse(path: Path) -> _Window:
    window = None
    with open_bytes(path) as stream:
        try:
            for event, element in iterparse(stream, events=("start", "end")):
                if window is None:
                    window = _root(path, element)
                elif event == "end" and _take(window, element):
                    element.clear()
        except ParseError as error:
            reason = f"not a whole XML file ({error}); download it again"
            raise RecordingError(path, error.position[0], reason) from error
        except (EOFError, OSError, ZlibError) as error:
            raise RecordingError(path, None, f"cannot be unpacked ({error}); download it again") from error
    if window is None or not window.rows:
        raise RecordingError(
            path, None, "no dynamic obstacle, expected recorded vehicles; is it an empty scenario?"
        )
    if not window.lanelets:
        raise RecordingError(path, None, "no lanelet, expected a road; is the file cut?")
    return window


def _root(path: Path, element: Element) -> _Window:
    if element.tag != "commonRoad":
        raise RecordingError(
            path, 1, f"the root is <{element.tag}>, expected <commonRoad>; is it another format?"
        )
    version = element.get("commonRoadVersion")
    if version not in VERSIONS:
        raise RecordingError(path, 1, f"CommonRoad version {version}, expected one of {', '.join(VERSIONS)}")
    try:
        dt = float(element.get("timeStepSize", ""))
    except ValueError:
        dt = 0.0
    if not 0.0 < dt <= 1.0:
        raise RecordingError(
            path, 1, f"timeStepSize is {element.get('timeStepSize')!r}, expected seconds above 0 and up to 1"
        )
    benchmark = element.get("benchmarkID", path.name.split(".")[0])
    return _Window(path, dt, benchmark, element.get("source", ""), _find_lines(path))


def _take(window: _Window, element: Element) -> bool:
    """Takes what is in an element of interest; returns whether it can be forgotten."""
    if element.tag == "lanelet":
        if element.find("leftBound") is None:
            return False  # a reference to a lanelet, within another element
        window.lanelets.append(_lanelet(window, element))
        return True
    if element.tag == "dynamicObstacle" or (
        element.tag == "obstacle" and (element.findtext("role") or "").strip() == "dynamic"
    ):
        window.rows.extend(_obstacle(window, element))
        return True
    return element.tag in (
        "obstacle",
        "staticObstacle",
        "phantomObstacle",
        "environmentObstacle",
        "planningProblem",
    )


def _lanelet(window: _Window, element: Element) -> Lanelet:
    bounds = []
    for side in ("leftBound", "rightBound"):
        points = [(one.findtext("x"), one.findtext("y")) for one in element.iterfind(f"{side}/point")]
        try:
            line = np.array(points, dtype=np.float64).reshape(-1, 2)
        except (TypeError, ValueError):
            line = np.empty((0, 2))
        if len(line) < 2 or not np.isfinite(line).all():
            _refuse(window, element, f"has no proper {side}, expected two points or more; correct it")
        bounds.append(line)
    return Lanelet(int(element.get("id", "0")), bounds[0], bounds[1])


def _obstacle(window: _Window, element: Element) -> Iterator[tuple[float, ...]]:
    """Yields the states of an obstacle."""
    if element.find("occupancySet") is not None:
        _refuse(
            window, element, "has an occupancy set, expected a trajectory; take a scenario named T, not S"
        )
    row = float(window.lines.get(_key(element), 0))
    number = float(element.get("id", "0"))
    size = [
        _number(window, element, (element, f"shape/rectangle/{name}", "")) for name in ("length", "width")
    ]
    for state in [element.find("initialState"), *element.iterfind("trajectory/state")]:
        if state is None:
            _refuse(window, element, "has no initialState, expected one; is the file damaged?")
        step = _number(window, element, (state, "time/exact", ""))
        if step != int(step) or step < 0:
            _refuse(window, element, f"has a state at time {step:g}, expected a whole number of steps from 0")
        values = [_number(window, element, (state, place, f" at step {step:g}")) for place in STATE]
        yield number, step, *values, *size, row


def _number(window: _Window, obstacle: Element, place: tuple[Element, str, str]) -> float:
    """Returns the number at a path within an element; the last of `place` says when, for messages."""
    element, path, when = place
    text = element.findtext(path)
    if text is None:
        _refuse(window, obstacle, f"has no {path}{when}, expected an exact number; intervals cannot be read")
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        _refuse(window, obstacle, f"has {path} {text!r}{when}, expected a finite number; correct it")
    return number


def _refuse(window: _Window, element: Element, reason: str) -> NoReturn:
    raise RecordingError(window.path, window.lines.get(_key(element)), f"{_key(element)} {reason}")


def _key(element: Element) -> str:
    return f"{element.tag} {element.get('id')}"


def _find_lines(path: Path) -> dict[str, int]:
    """Returns the line on which each lanelet and obstacle begins."""
    tag = re.compile(rb'<(lanelet|obstacle|dynamicObstacle) id="(\d+)"')
    with open_bytes(path) as stream:
        found = ((tag.search(line), number) for number, line in enumerate(stream, start=1))
        return {f"{one[1].decode()} {one[2].decode()}": number for one, number in found if one}
