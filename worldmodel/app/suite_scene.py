"""The scenes of one level of a suite: simulated once, and kept as a store whose test part is the episodes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.app.compose import Config, build, compose
from worldmodel.data import Span, Split, save_store
from worldmodel.evaluation.protocol import V1, Protocol, episodes
from worldmodel.scene import Recording
from worldmodel.scene.traffic import Scenario, simulate


def scenario_of(overrides: list[str]) -> Config:
    """Returns the configuration of the scenario that `worldmodel evaluate` with these overrides drives in."""
    return compose("evaluate", overrides).env.scenario


def scene_folder(folder: Path, name: str, scenario: Any, wanted: Any) -> Path:
    """Returns where the scenes of a level are kept: its name says what they are made of.

    Args:
        scenario: plain dicts and lists.
        wanted: `scenes` of the suite, likewise.
    """
    text = json.dumps([scenario, wanted], sort_keys=True)
    return folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def protocol_of(seconds: float) -> Protocol:
    """Returns `V1` with one hand-over of each vehicle, which is driven for so long at least."""
    return Protocol(name=f"v1_{seconds:g}s", repeat=None, min_drive=seconds)


def keep_scenes(scenario: Config, path: Path, wanted: Config) -> None:
    """Simulates the scenes of a level and writes them, unless they are there.

    Raises:
        ValueError: nobody drives for so long on this road.
    """
    if path.exists():
        return
    made: Scenario = build(scenario)
    recordings = simulate(
        made,
        num_frames=round((V1.history + wanted.seconds) / made.dt),
        num_scenes=wanted.num,
        seed=wanted.seed,
        warm_up=wanted.warm_up,
    )
    spans = choose_egos(recordings, protocol_of(wanted.seconds), num=wanted.egos, seed=wanted.seed)
    known = {one.recording for one in spans}
    save_store([one for one in recordings if one.name in known], Split(train=(), test=spans), path)


def choose_egos(recordings: list[Recording], protocol: Protocol, *, num: int, seed: int) -> tuple[Span, ...]:
    """Returns each recording without egos but `num`, drawn from those that can be handed over."""
    can: dict[int, list[int]] = {}
    for one in episodes(recordings, protocol=protocol):
        can.setdefault(one.recording, []).append(one.vehicle_id)
    spans = []
    for number, ids in can.items():
        rng = np.random.default_rng([seed, number])
        chosen = rng.choice(ids, size=min(num, len(ids)), replace=False)
        recording = recordings[number]
        others = set(recording.tracks.ids.tolist()) - set(chosen.tolist())
        spans.append(Span(recording.name, 0, recording.num_frames, tuple(sorted(others))))
    return tuple(spans)
