"""Simulated traffic: many scenes at once, on roads with parallel lanes, by highway-env's rules."""

from worldmodel.scene.traffic.advance import advance, advance_torch
from worldmodel.scene.traffic.road import LaneEnd, TrafficLane, TrafficRoad
from worldmodel.scene.traffic.state import NO_EXIT, Drivers, TrafficState

__all__ = [
    "NO_EXIT",
    "Drivers",
    "LaneEnd",
    "TrafficLane",
    "TrafficRoad",
    "TrafficState",
    "advance",
    "advance_torch",
]
