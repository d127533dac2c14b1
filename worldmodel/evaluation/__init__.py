"""Judging: protocols and episodes, metrics, statistics, and the suite that drives agents."""

from worldmodel.evaluation.episode import EpisodeResult, Outcome
from worldmodel.evaluation.protocol import PPUU, PROTOCOLS, V1, Episode, Protocol, episodes
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
    "Protocol",
    "Results",
    "bootstrap_mean",
    "compare",
    "episodes",
    "evaluate",
    "mean_of",
    "measure_latency",
    "paired_difference",
    "read_episodes",
    "summarise",
    "to_obs",
    "wilson",
    "write_summary",
]
