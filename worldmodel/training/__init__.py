"""Thin Lightning modules and what goes around them."""

from worldmodel.training.best import KeepBest
from worldmodel.training.budget import TimeBudget
from worldmodel.training.calibration import (
    calibrate_disagreement,
    calibrate_uncertainty,
    expert_disagreement,
    uncertainty_of,
)
from worldmodel.training.collapse import WarnOfCollapse
from worldmodel.training.compiled import compile_parts
from worldmodel.training.coupled_module import CoupledModule, set_motion_normalisation
from worldmodel.training.csv_logger import CsvLogger
from worldmodel.training.curriculum import GrowingHorizon, GrowingShare
from worldmodel.training.forward_module import ForwardModule, with_latent
from worldmodel.training.normalisation import set_normalisation
from worldmodel.training.optimizer import learnt_groups, scheduled, warmup_cosine
from worldmodel.training.resume import Resume, Stateful, StepSeeds, TrainingState
from worldmodel.training.ssl_module import SSLModule

__all__ = [
    "CoupledModule",
    "CsvLogger",
    "ForwardModule",
    "GrowingHorizon",
    "GrowingShare",
    "KeepBest",
    "Resume",
    "SSLModule",
    "Stateful",
    "StepSeeds",
    "TimeBudget",
    "TrainingState",
    "WarnOfCollapse",
    "calibrate_disagreement",
    "calibrate_uncertainty",
    "compile_parts",
    "expert_disagreement",
    "learnt_groups",
    "scheduled",
    "set_motion_normalisation",
    "set_normalisation",
    "uncertainty_of",
    "warmup_cosine",
    "with_latent",
]
