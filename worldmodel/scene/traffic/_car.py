"""Vehicles and lanes as records: one array of them holds all that the kernels read and write."""

import numpy as np

STATE = ("x", "y", "heading", "speed", "lane", "target", "timer", "noise", "valid", "crashed")
"""Fields of `worldmodel.scene.traffic.TrafficState` in a car, without the order."""
DRIVER = (
    *("length", "width", "desired_speed", "headway", "gap", "accel", "decel", "delta"),
    *("politeness", "min_gain", "safe_decel", "own_decel", "lateral_time", "heading_time"),
    *("slowest", "noise_std", "exit", "changes"),
)
"""Fields of `worldmodel.scene.traffic.Drivers` in a car."""
SCRATCH = ("cosine", "sine", "pedal", "turn", "rank", "is_driven")
"""What a step computes on the way: of the heading, acceleration, sine of the slip angle, place in the order;
and whether somebody else drives."""
_TYPES = dict.fromkeys(("lane", "target", "exit", "rank"), np.int32) | dict.fromkeys(
    ("valid", "crashed", "changes", "is_driven"), np.bool_
)
CAR = np.dtype([(name, _TYPES.get(name, np.float64)) for name in (*STATE, *DRIVER, *SCRATCH)], align=True)
LANE = np.dtype(
    [(name, np.float64) for name in ("centre", "half_width", "start", "end", "stop", "limit")]
    + [("first_cross", np.float64), ("last_cross", np.float64), ("escape", np.int64)]
)
"""As `worldmodel.scene.traffic.road.TrafficRoad.table`."""
