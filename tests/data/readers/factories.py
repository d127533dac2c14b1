"""Made-up files in the layouts that readers take: real column orders, numbers one can check by hand."""

from collections.abc import Sequence
from pathlib import Path

TEXT = "vehicle frame total time x y gx gy length width class speed accel lane before after space headway"
PORTAL = (
    "Vehicle_ID,Frame_ID,Total_Frames,Global_Time,Local_X,Local_Y,Global_X,Global_Y,v_length,v_Width,v_Class,v_Vel,"
    "v_Acc,Lane_ID,O_Zone,D_Zone,Int_ID,Section_ID,Direction,Movement,Preceding,Following,Space_Headway,Time_Headway,"
    "Location"
)
ZERO_MS = 1118846979000
"""Time of frame 0 of US-101's first period, roughly."""


def ngsim_row(vehicle: int, frame: int, **changes: object) -> dict[str, object]:
    """One row in feet: vehicle n in the middle of lane n (12 ft), 10 ft further (100 ft/s) every frame."""
    row = {
        "vehicle": vehicle,
        "frame": frame,
        "total": 20,
        "time": ZERO_MS + 100 * frame,
        "x": 12.0 * vehicle - 6.0,
        "y": 10.0 * frame,
        "gx": 6451137.641,
        "gy": 1873344.962,
        "length": 15.0,
        "width": 6.0,
        "class": 2,
        "speed": 100.0,
        "accel": 0.0,
        "lane": vehicle,
        "before": 0,
        "after": 0,
        "space": 0.0,
        "headway": 9999.99,
        "location": "us-101",
    }
    return row | changes


def ngsim_rows(
    vehicles: Sequence[int] = (1, 2), frames: Sequence[int] = range(10, 30)
) -> list[dict[str, object]]:
    return [ngsim_row(vehicle, frame) for vehicle in vehicles for frame in frames]


def write_text(path: Path, rows: Sequence[dict[str, object]], *, separator: str = "  ") -> Path:
    """The original layout of 18 columns."""
    path.write_text("".join(separator.join(str(row[name]) for name in TEXT.split()) + "\n" for row in rows))
    return path


def write_portal(
    path: Path, rows: Sequence[dict[str, object]], *, header: str = PORTAL, bom: bool = False
) -> Path:
    """The portal's layout of 25 columns."""
    before, after = TEXT.split()[:14], TEXT.split()[14:]
    lines = [header]
    for row in rows:
        fields = [row[name] for name in before] + [""] * 6 + [row[name] for name in (*after, "location")]
        lines.append(",".join(f'"{field}"' if "," in str(field) else str(field) for field in fields))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig" if bom else "utf-8")
    return path


def commonroad_text(
    *,
    states: Sequence[tuple[int, float, float, float, float]],
    dt: float = 0.2,
    version: str = "2020a",
    vehicle: int = 7,
    extra: str = "",
) -> str:
    """A scenario of one car (4 x 2 m) with the states `step, x, y, heading, speed`, on a lanelet along x."""

    def state(tag: str, one: tuple[int, float, float, float, float]) -> str:
        step, x, y, heading, speed = one
        return (
            f"<{tag}><position><point><x>{x}</x><y>{y}</y></point></position>"
            f"<orientation><exact>{heading}</exact></orientation><time><exact>{step}</exact></time>"
            f"<velocity><exact>{speed}</exact></velocity></{tag}>"
        )

    def bound(side: str, y: float) -> str:
        points = "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x in (-50, 200))
        return f"<{side}Bound>{points}</{side}Bound>"

    tag, role = ("dynamicObstacle", "") if version == "2020a" else ("obstacle", "<role>dynamic</role>")
    return f"""<?xml version="1.0"?>
<commonRoad timeStepSize="{dt}" commonRoadVersion="{version}" source="made up"
 benchmarkID="TEST_Road-1_1_T-1">
<lanelet id="1">{bound("left", 2.0)}{bound("right", -2.0)}</lanelet>
<{tag} id="{vehicle}">{role}<type>car</type>
<shape><rectangle><length>4.0</length><width>2.0</width></rectangle></shape>
{state("initialState", states[0])}
<trajectory>{"".join(state("state", one) for one in states[1:])}</trajectory>
</{tag}>
{extra}</commonRoad>
"""
