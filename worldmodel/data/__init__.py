"""Recordings: reading, shipping, storing, splitting, counting; loading is in `dataset` and `datamodule`."""

from worldmodel.data.error import RecordingError
from worldmodel.data.sample import us101, us101_split
from worldmodel.data.split import Span, Split, load_split, purge_shared, save_split, split_by_time
from worldmodel.data.stats import Stats, compute_stats
from worldmodel.data.store import Store, load_recording, load_store, save_recording, save_store
from worldmodel.data.synthetic import make_recording

__all__ = [
    "RecordingError",
    "Span",
    "Split",
    "Stats",
    "Store",
    "compute_stats",
    "load_recording",
    "load_split",
    "load_store",
    "make_recording",
    "purge_shared",
    "save_recording",
    "save_split",
    "save_store",
    "split_by_time",
    "us101",
    "us101_split",
]
