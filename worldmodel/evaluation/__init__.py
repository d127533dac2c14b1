"""Judging: protocols and episodes, metrics, statistics, and the suite that drives agents."""

from worldmodel.evaluation.episode import EpisodeResult, Outcome
from worldmodel.evaluation.metric import Side, contact_side, first_hit, mean_jerk, time_to_collision
from worldmodel.evaluation.prediction import PredictionScores, Predictor, score_predictions
from worldmodel.evaluation.protocol import PPUU, PROTOCOLS, V1, Episode, Protocol, episodes, pieces
from worldmodel.evaluation.statistics import Interval, bootstrap_mean, paired_difference, wilson
from worldmodel.evaluation.suite import Results, evaluate, measure_latency, to_obs
from worldmodel.evaluation.table import compare, mean_of, read_episodes, summarise, write_summary

__all__ = [
    "PPUU",
    "PROTOCOLS",
    "V1",
    "Episode",
    "EpisodeResult",
    "Interval",
    "Outcome",
    "PredictionScores",
    "Predictor",
    "Protocol",
    "Results",
    "Side",
    "bootstrap_mean",
    "compare",
    "contact_side",
    "episodes",
    "evaluate",
    "first_hit",
    "mean_jerk",
    "mean_of",
    "measure_latency",
    "paired_difference",
    "pieces",
    "read_episodes",
    "score_predictions",
    "summarise",
    "time_to_collision",
    "to_obs",
    "wilson",
    "write_summary",
]
