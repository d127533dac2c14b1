"""What an evaluation is: which vehicles we drive, from when to when, and what counts as safe and as success.

A `Protocol` is numbers only, frozen and versioned: two results can be compared when their protocols' `key`
agrees. It knows recordings; it does not know environments, agents or pixels.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from worldmodel.data.split import Span
from worldmodel.scene import Recording, X

EDGE_JUMP = 20.0
"""A covered edge that moves by more than this in one frame belongs to another piece of the recording [m]."""


@dataclass(frozen=True)
class Protocol:
    """How vehicles of a recording are handed over to an agent and how their episodes are judged.

    An episode starts at the newest frame of a recorded history and ends with the vehicle's contiguous
    recording (or the recording itself), or where its driver comes within `edge_margin` of the far end of the
    covered road. An ego that gets there earlier has finished, though another stretch may be covered later on,
    where its driver went further.

    Attributes:
        name: short name for tables.
        version: raised whenever the meaning of a field or of the judgement changes.
        history: recorded before the hand-over [s].
        repeat: further hand-overs of the same vehicle follow every so many seconds; None: one a run of
            frames.
        min_drive: an episode in which the recorded driver has less to drive is left out [s].
        edge_margin: distance kept to the end of the covered road [m].
        shrink: taken off every side of both boxes before they are tested for overlap [m].
        road_margin: the ego's centre must stay this far inside the union of lanelets [m].
        min_progress: share of the recorded driver's distance over the same episode that *success* needs of an
            ego that is still driving when it ends.
        ends_with_log: whether the episode ends with the vehicle's own recording, or with everybody's.
        must_reach_edge: whether *success* needs the end of the covered road to be reached; vehicles whose own
            driver does not get there are left out.
    """

    name: str = "v1"
    version: int = 2
    history: float = 2.0
    repeat: float | None = 1.0
    min_drive: float = 3.0
    edge_margin: float = 36.0
    shrink: float = 0.1
    road_margin: float = 0.3
    min_progress: float = 0.8
    ends_with_log: bool = True
    must_reach_edge: bool = False

    def __post_init__(self) -> None:
        if self.history <= 0 or self.min_drive <= 0 or (self.repeat is not None and self.repeat <= 0):
            raise ValueError(
                f"history={self.history}, min_drive={self.min_drive}, repeat={self.repeat}: expected "
                "positive durations in seconds; use repeat=null for a single hand-over"
            )

    @property
    def key(self) -> str:
        """A short hash of everything the protocol says."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


V1 = Protocol()
"""The default."""

PPUU = Protocol(
    name="ppuu",
    version=3,
    repeat=None,
    min_drive=0.1,
    edge_margin=63.2,
    shrink=0.25,
    road_margin=0.0,
    min_progress=0.0,
    ends_with_log=False,
    must_reach_edge=True,
)
"""PPUU's own criterion: each vehicle once, and the mark 1.75 look-aheads (63 m) before the end of the road
must be passed before the recording ends. No minimum speed, no time-out but that. A collision is a pixel of
another vehicle within the ego's box shrunk by 1 m in each dimension; half of that taken off both boxes is the
same as long as they are parallel."""

PROTOCOLS = {one.name: one for one in (V1, PPUU)}


@dataclass(frozen=True)
class Episode:
    """One vehicle, handed over once.

    Attributes:
        recording: index into the recordings evaluated together.
        vehicle: row of the vehicle in that recording.
        vehicle_id: its number in the source; clusters of episodes are formed by it.
        start: newest recorded frame; the first action leads to the next.
        last: frame at which the episode ends at the latest.
        human_distance: what the recorded driver covers from `start` to `last` along the road [m].
        history: recorded frames up to and including `start`.
    """

    recording: int
    vehicle: int
    vehicle_id: int
    start: int
    last: int
    human_distance: float
    history: int

    @property
    def num_steps(self) -> int:
        return self.last - self.start


def episodes(
    recordings: Sequence[Recording], spans: Sequence[Span] | None = None, *, protocol: Protocol = V1
) -> list[Episode]:
    """Returns every episode of the spans (of everything, without), ordered by recording, vehicle and time.

    Vehicles in `Span.exclude` are not handed over; they still drive among the others.

    Raises:
        ValueError: if a span names no recording, or if no vehicle is recorded long enough.
    """
    index = {one.name: number for number, one in enumerate(recordings)}
    if spans is None:
        spans = [Span(one.name, 0, one.num_frames, ()) for one in recordings]
    found: list[Episode] = []
    for span in spans:
        if span.recording not in index:
            raise ValueError(
                f"span of {span.recording!r}, expected one of {sorted(index)}; pass its recording"
            )
        found += _span_episodes(recordings[index[span.recording]], span, protocol, index[span.recording])
    if not found:
        raise ValueError(
            f"no episode in {len(spans)} spans: no vehicle has {protocol.history} s of history and then "
            f"{protocol.min_drive} s to drive {protocol.edge_margin} m before the edge; lower one of them"
        )
    return found


def spread(found: Sequence[Episode], num: int | None) -> list[Episode]:
    """Returns so many episodes, evenly spaced over all of them; all without a number.

    Episodes are ordered by recording, vehicle and time, so that recordings, scenes and vehicles are there in
    their proportions.

    Raises:
        ValueError: a number below one.
    """
    if num is None or num >= len(found):
        return list(found)
    if num < 1:
        raise ValueError(f"{num} episodes, expected at least one; leave the number out for all of them")
    rows = np.linspace(0, len(found) - 1, num).round().astype(int)
    return [found[row] for row in rows.tolist()]


def pieces(recording: Recording) -> np.ndarray:
    """Returns the piece each frame belongs to; pieces are parted by jumps of the covered stretch."""
    jump = np.abs(np.diff(recording.coverage, axis=0)).max(axis=1) > EDGE_JUMP
    is_empty = np.logical_not(recording.tracks.valid.any(axis=0))
    return np.concatenate([[0], np.cumsum(jump | (np.diff(is_empty.astype(int)) != 0))])


def _span_episodes(recording: Recording, span: Span, protocol: Protocol, number: int) -> Iterator[Episode]:
    tracks, dt = recording.tracks, recording.dt
    history, min_drive = _frames(protocol.history, dt), _frames(protocol.min_drive, dt)
    piece = pieces(recording)[: span.last]
    for row, first, stop in _runs(recording, span):
        starts = range(first + history - 1, stop, _frames(protocol.repeat, dt) if protocol.repeat else stop)
        x = tracks.state[row, :stop, X]
        beyond = np.flatnonzero(x > recording.coverage[:stop, 1] - protocol.edge_margin)
        for start in starts:
            crossing = beyond[beyond >= start]
            driven = int(np.append(crossing, stop - 1)[0])  # the driver's last frame
            last = driven if protocol.ends_with_log else int(np.flatnonzero(piece == piece[start])[-1])
            reaches_edge = len(crossing) > 0 and driven <= last
            if driven - start < min_drive or (protocol.must_reach_edge and not reaches_edge):
                continue
            yield Episode(
                recording=number,
                vehicle=row,
                vehicle_id=int(tracks.ids[row]),
                start=start,
                last=last,
                human_distance=float(x[driven] - x[start]),
                history=history,
            )


def _runs(recording: Recording, span: Span) -> Iterator[tuple[int, int, int]]:
    """Contiguous stretches within the span of the vehicles that may be handed over."""
    for row, first, stop in recording.tracks.runs():
        first, stop = max(first, span.first), min(stop, span.last)
        if stop > first and int(recording.tracks.ids[row]) not in span.exclude:
            yield row, first, stop


def _frames(seconds: float, dt: float) -> int:
    return max(1, round(seconds / dt))
