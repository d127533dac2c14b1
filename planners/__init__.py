"""Planners: optimisers of a callable cost of action sequences, and policies that stand in for them."""

from planners.baseline import IDM, LaneKeeping, LogReplay, NoAction
from planners.cross_entropy import cem, icem
from planners.driver import SimulatedDriver
from planners.gradient import GradientPlanner, adam
from planners.objective import ObjectiveFn, last_action, make_objective
from planners.online import OnlinePlanner
from planners.optimizer import Minimum, Optimizer, chain
from planners.oracle import OracleWorld
from planners.path_integral import mppi
from planners.quasi_newton import lbfgs
from planners.receding import RecedingHorizon, WarmPlanner, shift
from planners.risk import make_latent_objective, make_member_objective
from planners.sequence import ActionBounds, ActionSequences
from planners.shooting import random_shooting

__all__ = [
    "IDM",
    "ActionBounds",
    "ActionSequences",
    "GradientPlanner",
    "LaneKeeping",
    "LogReplay",
    "Minimum",
    "NoAction",
    "ObjectiveFn",
    "OnlinePlanner",
    "Optimizer",
    "OracleWorld",
    "RecedingHorizon",
    "SimulatedDriver",
    "WarmPlanner",
    "adam",
    "cem",
    "chain",
    "icem",
    "last_action",
    "lbfgs",
    "make_latent_objective",
    "make_member_objective",
    "make_objective",
    "mppi",
    "random_shooting",
    "shift",
]
