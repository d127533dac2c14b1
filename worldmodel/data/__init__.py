"""Recordings: reading, shipping, storing, splitting and counting them; loading is in `dataset`, `datamodule`."""

from worldmodel.data.error import RecordingError
from worldmodel.data.synthetic import make_recording

__all__ = ["RecordingError", "make_recording"]
