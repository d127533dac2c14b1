"""Planners: optimisers of a callable cost of action sequences, and policies that stand in for them."""

from planners.baseline import IDM, LaneKeeping, LogReplay, NoAction
from planners.gradient import ActionBounds, GradientPlanner, Minimum, minimise
from planners.objective import last_action, make_objective
from planners.receding import RecedingHorizon, WarmPlanner, shift

__all__ = [
    "IDM",
    "ActionBounds",
    "GradientPlanner",
    "LaneKeeping",
    "LogReplay",
    "Minimum",
    "NoAction",
    "RecedingHorizon",
    "WarmPlanner",
    "last_action",
    "make_objective",
    "minimise",
    "shift",
]
