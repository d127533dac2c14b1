"""Policies: networks that stand in for planning, what they are trained on, and how they plan."""

from planners.policy.distillation import Distillation
from planners.policy.imagine import Imagination, Start, imagine, imagine_through_views, start_from
from planners.policy.loss import (
    Disagreement,
    ExpertDistance,
    ImaginedCost,
    Imitation,
    PolicyLoss,
    PolicyLossFn,
)
from planners.policy.network import (
    GaussianHead,
    MixtureHead,
    PointHead,
    Policy,
    PolicyNetwork,
    ValueNetwork,
)
from planners.policy.planner import PolicyPlanner, PolicyProposal
from planners.policy.start import (
    Adversarial,
    ContextStart,
    Posterior,
    PosteriorContextStart,
    WorldStart,
    load_ensemble,
    load_frozen,
)
from planners.policy.value import Value
from planners.policy.view import PolicyView, Situation, ViewSpec, look, proceed, situate, view_of

__all__ = [
    "Adversarial",
    "ContextStart",
    "Disagreement",
    "Distillation",
    "ExpertDistance",
    "GaussianHead",
    "Imagination",
    "ImaginedCost",
    "Imitation",
    "MixtureHead",
    "PointHead",
    "Policy",
    "PolicyLoss",
    "PolicyLossFn",
    "PolicyNetwork",
    "PolicyPlanner",
    "PolicyProposal",
    "PolicyView",
    "Posterior",
    "PosteriorContextStart",
    "Situation",
    "Start",
    "Value",
    "ValueNetwork",
    "ViewSpec",
    "WorldStart",
    "imagine",
    "imagine_through_views",
    "load_ensemble",
    "load_frozen",
    "look",
    "proceed",
    "situate",
    "start_from",
    "view_of",
]
