"""Simulated traffic: many scenes at once, on roads with parallel lanes, by highway-env's rules."""

from worldmodel.scene.traffic.advance import advance, advance_torch
from worldmodel.scene.traffic.curve import RoadCurve
from worldmodel.scene.traffic.population import DriverType, Population, Spread
from worldmodel.scene.traffic.preset import MIXED, MOTORWAY
from worldmodel.scene.traffic.record import simulate
from worldmodel.scene.traffic.road import LaneEnd, TrafficLane, TrafficRoad
from worldmodel.scene.traffic.simulation import Scenario, Simulation
from worldmodel.scene.traffic.state import NO_EXIT, Drivers, TrafficState
from worldmodel.scene.traffic.variant import vary

__all__ = [
    "MIXED",
    "MOTORWAY",
    "NO_EXIT",
    "DriverType",
    "Drivers",
    "LaneEnd",
    "Population",
    "RoadCurve",
    "Scenario",
    "Simulation",
    "Spread",
    "TrafficLane",
    "TrafficRoad",
    "TrafficState",
    "advance",
    "advance_torch",
    "simulate",
    "vary",
]
