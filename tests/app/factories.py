"""A store small enough to drive in a test, and checkpoints of untrained models."""

from pathlib import Path

from worldmodel.data import Span, Split, make_recording, save_store
from worldmodel.models import ForwardModel, save_forward_model
from worldmodel.scene import RasterSpec


def save_small_store(folder: Path, *, test: bool = True) -> Path:
    """Writes a store of two made-up recordings, the second of them for testing."""
    recordings = [
        make_recording(seed=1, name="first", num_vehicles=6, num_frames=80),
        make_recording(seed=2, name="second", num_vehicles=4, num_frames=70),
    ]
    split = Split(train=(Span("first", 0, 80),), test=(Span("second", 0, 70),) if test else ())
    save_store(recordings, split, folder)
    return folder


def save_model(path: Path, *, spec: RasterSpec | None = None) -> Path:
    """Writes an untrained checkpoint."""
    save_forward_model(ForwardModel(spec=spec, channels=8), path)
    return path
