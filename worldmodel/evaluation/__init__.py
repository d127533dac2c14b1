"""Judging: protocols and episodes, metrics, statistics, and the suite that drives agents."""

from worldmodel.evaluation.episode import EpisodeResult, Outcome
from worldmodel.evaluation.metric import Side, contact_side, first_hit, mean_jerk, time_to_collision
from worldmodel.evaluation.prediction import PredictionScores, Predictor, score_predictions
from worldmodel.evaluation.protocol import PPUU, PROTOCOLS, V1, Episode, Protocol, episodes, pieces, spread
from worldmodel.evaluation.recalibration import Recalibration, every_second_vehicle, recalibrate
from worldmodel.evaluation.reliability import (
    Bins,
    bias,
    catching_threshold,
    conformal_quantile,
    conformal_threshold,
    expected_calibration_error,
    occupancy_bins,
    rank_correlation,
    spread_bins,
    spread_ratio,
)
from worldmodel.evaluation.statistics import (
    Interval,
    bootstrap_mean,
    bootstrap_seeds,
    clustered_wilson,
    paired_difference,
    wilson,
)
from worldmodel.evaluation.suite import Results, evaluate, measure_latency, to_obs
from worldmodel.evaluation.table import compare, mean_of, read_episodes, summarise, write_summary
from worldmodel.evaluation.truth import Others, OthersSource, Traffic, TrafficSource, Truth

__all__ = [
    "PPUU",
    "PROTOCOLS",
    "V1",
    "Bins",
    "Episode",
    "EpisodeResult",
    "Interval",
    "Others",
    "OthersSource",
    "Outcome",
    "PredictionScores",
    "Predictor",
    "Protocol",
    "Recalibration",
    "Results",
    "Side",
    "Traffic",
    "TrafficSource",
    "Truth",
    "bias",
    "bootstrap_mean",
    "bootstrap_seeds",
    "catching_threshold",
    "clustered_wilson",
    "compare",
    "conformal_quantile",
    "conformal_threshold",
    "contact_side",
    "episodes",
    "evaluate",
    "every_second_vehicle",
    "expected_calibration_error",
    "first_hit",
    "mean_jerk",
    "mean_of",
    "measure_latency",
    "occupancy_bins",
    "paired_difference",
    "pieces",
    "rank_correlation",
    "read_episodes",
    "recalibrate",
    "score_predictions",
    "spread",
    "spread_bins",
    "spread_ratio",
    "summarise",
    "time_to_collision",
    "to_obs",
    "wilson",
    "write_summary",
]
