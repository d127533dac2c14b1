"""Costs of a predicted future: pure functions, small objects that hold their numbers, and a weighted sum.

Every cost is a function of the ego's pose, so it gives a gradient at every pose. Knows raster and road, not
where the rollout came from.
"""

from worldmodel.costs.comfort import Comfort, accel_cost, curvature_cost, jerk_cost, lateral_cost
from worldmodel.costs.disagreement import (
    KINDS,
    Disagreement,
    DisagreementPenalty,
    VarianceParts,
    disagreement,
    excess,
    member_variance,
    split_crossed_variance,
    split_variance,
)
from worldmodel.costs.goal import Goal, overspeed_cost, progress_cost, reverse_cost
from worldmodel.costs.lane import LaneKeeping, heading_cost, lane_cost, off_road_cost
from worldmodel.costs.ppuu import PPUU, ppuu_footprint_cost, ppuu_proximity_cost
from worldmodel.costs.preset import motorway_cost, ppuu_cost
from worldmodel.costs.proximity import Proximity, falloff, first_hit, safety_distance
from worldmodel.costs.uncertainty import Uncertainty, footprint_variance, uncertainty_cost
from worldmodel.costs.weighted import TermFn, Terms, WeightedCost

__all__ = [
    "KINDS",
    "PPUU",
    "Comfort",
    "Disagreement",
    "DisagreementPenalty",
    "Goal",
    "LaneKeeping",
    "Proximity",
    "TermFn",
    "Terms",
    "Uncertainty",
    "VarianceParts",
    "WeightedCost",
    "accel_cost",
    "curvature_cost",
    "disagreement",
    "excess",
    "falloff",
    "first_hit",
    "footprint_variance",
    "heading_cost",
    "jerk_cost",
    "lane_cost",
    "lateral_cost",
    "member_variance",
    "motorway_cost",
    "off_road_cost",
    "overspeed_cost",
    "ppuu_cost",
    "ppuu_footprint_cost",
    "ppuu_proximity_cost",
    "progress_cost",
    "reverse_cost",
    "safety_distance",
    "split_crossed_variance",
    "split_variance",
    "uncertainty_cost",
]
