"""Populations and scenarios to begin with."""

from worldmodel.scene.traffic.population import DriverType, Population, Spread
from worldmodel.scene.traffic.road import TrafficRoad
from worldmodel.scene.traffic.simulation import Scenario

LATERAL, HEADING = Spread(2.4), Spread(0.6)
"""highway-env's cars change lanes within two seconds, these within five [s]."""

CARS = DriverType(
    share=0.85,
    length=Spread(4.6, 0.3),
    width=Spread(1.85, 0.08),
    desired_speed=Spread(29.0, 3.0),
    headway=Spread(1.4, 0.3),
    gap=Spread(2.5, 0.5),
    accel=Spread(1.5, 0.3),
    decel=Spread(2.5, 0.4),
    politeness=Spread(0.2, 0.1),
    noise_std=Spread(0.15, 0.05),
    aggressiveness=0.25,
    lateral_time=LATERAL,
    heading_time=HEADING,
)
TRUCKS = DriverType(
    share=0.15,
    length=Spread(13.0, 2.0),
    width=Spread(2.5),
    desired_speed=Spread(23.0, 1.0),
    headway=Spread(1.8, 0.3),
    gap=Spread(3.0, 0.5),
    accel=Spread(0.8, 0.2),
    decel=Spread(2.0, 0.2),
    politeness=Spread(0.3, 0.1),
    noise_std=Spread(0.1, 0.03),
    lateral_time=LATERAL,
    heading_time=HEADING,
)
MIXED = Population((CARS, TRUCKS), exit_share=0.2)
"""Cars and trucks of a motorway; chosen by hand, not fitted to any recording."""
MOTORWAY = Scenario("motorway", TrafficRoad.straight(num_lanes=4, length=1000.0), MIXED, 15.0, 1000.0)
"""Four lanes of them."""
