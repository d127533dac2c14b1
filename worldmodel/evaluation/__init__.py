"""Judging: protocols and episodes, metrics, statistics, and the suite that drives agents."""
