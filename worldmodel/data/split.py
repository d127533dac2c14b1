"""Which frames of which recordings are for training, validation and test.

A split cuts time, never vehicles or windows: a window that crosses a cut belongs to nobody. Vehicles that
were seen in training or validation are not driven by us in the test (`purge_shared`), though they are part of
the traffic there.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.atomic import replacing
from worldmodel.data.error import RecordingError
from worldmodel.scene import Recording

VERSION = 1
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Span:
    """A stretch of time of a recording.

    Attributes:
        recording: its name.
        first: first frame.
        last: the frame after the last, as in `Recording.crop`.
        exclude: ids of vehicles that must not be the ego.
    """

    recording: str
    first: int
    last: int
    exclude: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.last:
            raise ValueError(
                f"span of {self.recording!r}, frames {self.first} to {self.last}: expected 0 <= first < last"
            )


@dataclass(frozen=True)
class Split:
    """Spans for training, validation and test; no frame is in two of them.

    Example:
        >>> Split(train=(Span("a", 0, 80),), val=(Span("a", 80, 100),), test=(Span("b", 0, 50),)).names
        ('a', 'b')

    Raises:
        ValueError: where two spans share a frame.
    """

    train: tuple[Span, ...]
    val: tuple[Span, ...] = ()
    test: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        spans = [(span, part) for part in PARTS for span in getattr(self, part)]
        spans.sort(key=lambda one: (one[0].recording, one[0].first))
        for _, group in groupby(spans, key=lambda one: one[0].recording):
            for (one, part), (two, other) in pairwise(group):
                if two.first < one.last:
                    raise ValueError(
                        f"frames {two.first} to {min(one.last, two.last)} of {one.recording!r} are in {part}"
                        f" and in {other}, expected each frame once; move the cut"
                    )

    @property
    def names(self) -> tuple[str, ...]:
        """The recordings it is about, sorted."""
        return tuple(sorted({span.recording for part in PARTS for span in getattr(self, part)}))

    def check(self, recordings: Iterable[Recording], *, numbering: Mapping[str, str] | None = None) -> None:
        """Checks the split against its recordings.

        Raises:
            ValueError: where a recording is missing or too short, a part holds no vehicle, or a test span may
                drive a vehicle that is in training or validation.
        """
        known = {one.name: one for one in recordings}
        for part in PARTS:
            for span in getattr(self, part):
                if span.recording not in known:
                    raise ValueError(
                        f"the split names {span.recording!r}, found {sorted(known)}; add it or split anew"
                    )
                if span.last > known[span.recording].num_frames:
                    raise ValueError(
                        f"the split uses frames up to {span.last} of {span.recording!r}, which has"
                        f" {known[span.recording].num_frames}; split anew"
                    )
            if getattr(self, part) and not any(_egos(span, known).size for span in getattr(self, part)):
                raise ValueError(f"{part} holds no vehicle; choose other frames")
        for span, purged in zip(
            self.test, purge_shared(self, known.values(), numbering=numbering).test, strict=True
        ):
            if shared := sorted(set(purged.exclude) - set(span.exclude)):
                raise ValueError(
                    f"test vehicle {shared[0]} of {span.recording!r} is also in training or validation"
                    f" ({len(shared)} such); call purge_shared"
                )


def split_by_time(recording: Recording, *, val: float = 0.15, test: float = 0.15, gap: float = 0.0) -> Split:
    """Returns a split of one recording: training first, then validation, then test, its vehicles purged.

    Args:
        val: part of the recording's frames.
        test: part of the recording's frames.
        gap: time left out between the parts [s].

    Raises:
        ValueError: where a part is left empty.
    """
    frames = recording.num_frames
    pause = round(gap / recording.dt)
    test_first = frames - round(test * frames)
    val_last = test_first - pause if test else frames
    val_first = val_last - round(val * frames)
    train_last = val_first - pause if val else val_last
    name = recording.name
    if train_last <= 0:
        raise ValueError(
            f"{name}: val={val}, test={test}, gap={gap} s leave nothing of {frames} frames for training; "
            "lower them, or leave this recording out"
        )
    split = Split(
        train=(Span(name, 0, train_last),),
        val=(Span(name, val_first, val_last),) if val_first < val_last else (),
        test=(Span(name, test_first, frames),) if test_first < frames else (),
    )
    return purge_shared(split, [recording])


def purge_shared(
    split: Split, recordings: Iterable[Recording], *, numbering: Mapping[str, str] | None = None
) -> Split:
    """Returns the split with the test's vehicles that are also in training or validation excluded as egos.

    Args:
        numbering: which vehicle numbers mean the same vehicle: recordings with the same value here (or, if
            missing here, all others) share their numbering. MONA's vehicle 7 is not US-101's.
    """
    known = {one.name: one for one in recordings}
    scheme = numbering or {}
    seen: dict[str | None, set[int]] = {}
    for span in (*split.train, *split.val):
        if span.recording in known:
            seen.setdefault(scheme.get(span.recording), set()).update(_present(span, known).tolist())
    test = []
    for span in split.test:
        present = _present(span, known).tolist() if span.recording in known else []
        shared = set(present) & seen.get(scheme.get(span.recording), set())
        test.append(replace(span, exclude=tuple(sorted(shared | set(span.exclude)))))
    return replace(split, test=tuple(test))


def save_split(split: Split, path: str | Path) -> None:
    """Writes the split as JSON; the file appears whole or not at all."""
    text = json.dumps({"format": "worldmodel split", "version": VERSION, **asdict(split)}, indent=1)
    with replacing(path) as stream:
        stream.write(f"{text}\n".encode())


def load_split(path: str | Path) -> Split:
    """Returns the split in a JSON file.

    Raises:
        RecordingError: where there is none, or it is another format or version.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordingError(path, None, "no such file; prepare the recordings first") from None
    except (ValueError, OSError) as error:
        raise RecordingError(path, None, f"not JSON ({error}); prepare the recordings again") from error
    if not isinstance(found, dict) or found.get("format") != "worldmodel split":
        raise RecordingError(path, None, "not a split, expected JSON with format 'worldmodel split'")
    if found.get("version") != VERSION:
        raise RecordingError(
            path, None, f"version {found.get('version')}, expected {VERSION}; prepare the recordings again"
        )
    try:
        return Split(*(tuple(_span(one) for one in found[part]) for part in PARTS))
    except (KeyError, TypeError, ValueError) as error:
        raise RecordingError(
            path, None, f"not a valid split ({error}); prepare the recordings again"
        ) from error


def _span(found: Mapping[str, Any]) -> Span:
    first, last, exclude = found["first"], found["last"], found["exclude"]
    return Span(str(found["recording"]), int(first), int(last), tuple(int(one) for one in exclude))


def _present(span: Span, known: Mapping[str, Recording]) -> np.ndarray:
    tracks = known[span.recording].tracks
    return tracks.ids[tracks.valid[:, span.first : span.last].any(axis=1)]


def _egos(span: Span, known: Mapping[str, Recording]) -> np.ndarray:
    return np.setdiff1d(_present(span, known), np.array(span.exclude, dtype=np.int64))
