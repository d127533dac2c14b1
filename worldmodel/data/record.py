"""Simulated scenes as training data: every vehicle of every scene, written shard by shard into a store.

A shard is one scene: the recording of a seed, whole or not there. So the shards are the same whoever makes
them and in whatever order; after a kill only those are made that are missing; and memory does not grow with
their number. `split.json`, which makes the folder a store, comes last. Knows no simulator.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from worldmodel.atomic import replacing
from worldmodel.data.split import Span, Split, save_split
from worldmodel.data.store import SPLIT_FILE, SUFFIX, load_recording, save_recording
from worldmodel.data.worker import LocalWorkers, Workers
from worldmodel.scene import SPEED, Recording, check_consistent

PLAN_FILE = "scenes.json"
IDS = 1_000_000
"""Vehicles of scene `s` are numbered from `IDS s` on, so that no two scenes share one."""
GOLDEN = (5**0.5 - 1) / 2
MOVING = 0.1
"""What is never faster is an obstacle, not a driver to learn from [m/s]."""

Progress = Callable[[int, int], None]
"""Scenes done, scenes in all."""


@runtime_checkable
class Simulate(Protocol):
    """Returns the recordings of the seeds `seed`, `seed + 1`, ...; a seed's is the same whatever is with it.

    It must be to be had in other processes: a function of a module, or a `functools.partial` of one.
    """

    def __call__(self, *, seed: int, num_scenes: int) -> Iterable[Recording]: ...


@dataclass(frozen=True)
class Scenes:
    """Scenes to be recorded.

    Attributes:
        simulate: makes them.
        name: of the recordings, before the seed.
        num: how many.
        first_seed: of the first one.
        together: how many are simulated at a time by one worker; more is faster for batched simulators.
    """

    simulate: Simulate
    name: str = "scene"
    num: int = 100
    first_seed: int = 0
    together: int = 1

    def __post_init__(self) -> None:
        if self.num < 1 or self.first_seed < 0 or self.together < 1:
            raise ValueError(
                f"num={self.num}, first_seed={self.first_seed}, together={self.together}: expected at least "
                "1, 0 and 1"
            )

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.num)

    def path(self, folder: Path, seed: int) -> Path:
        """Returns the shard of a seed."""
        return folder / f"{self.name}-{seed:07d}{SUFFIX}"


@dataclass(frozen=True)
class Recorded:
    """What a store holds, part by part.

    Attributes:
        num_scenes: of training, validation and test.
        vehicle_minutes: likewise [min].
    """

    num_scenes: tuple[int, int, int]
    vehicle_minutes: tuple[float, float, float]


def record(
    scenes: Scenes,
    folder: str | Path,
    *,
    val: float = 0.15,
    test: float = 0.15,
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> Recorded:
    """Makes a folder the store of all scenes; what an earlier run has left there is used.

    Scenes are shared out to the parts by their seeds, evenly: more scenes later leave those that are there
    where they are.

    Args:
        folder: for shards, split and plan; on a cluster, one that every machine sees.
        val: share of the scenes.
        test: share of the scenes.
        workers: who simulates; this process by default.
        progress: called whenever a scene is done.

    Raises:
        ValueError: other scenes are in the folder, or a recording does not obey the integrator.
        FileExistsError: something else is.
        OSError: it cannot be written.
    """
    if val < 0 or test < 0 or val + test > 1:
        raise ValueError(f"val={val}, test={test}: expected shares that add up to at most 1")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, scenes)
    missing = [seed for seed in scenes.seeds if not scenes.path(folder, seed).exists()]
    done = scenes.num - len(missing)
    if progress is not None:
        progress(done, scenes.num)
    for block in (workers or LocalWorkers())(partial(record_block, scenes, folder), _blocks(scenes, missing)):
        done += len(block)
        if progress is not None:
            progress(done, scenes.num)
    return _finish(folder, scenes, val=val, test=test)


def record_block(scenes: Scenes, folder: Path, seeds: range) -> None:
    """Writes the shards of consecutive seeds."""
    for seed, found in zip(seeds, scenes.simulate(seed=seeds[0], num_scenes=len(seeds)), strict=True):
        check_consistent(found)
        path, ids = scenes.path(folder, seed), IDS * seed + np.arange(found.tracks.num_vehicles)
        save_recording(replace(found, name=path.stem, tracks=replace(found.tracks, ids=ids)), path)


def part_of(seed: int, *, val: float, test: float) -> str:
    """Returns the part that the scene of a seed belongs to: a sequence that fills the shares evenly."""
    place = (seed + 0.5) * GOLDEN % 1
    return "test" if place < test else "val" if place < test + val else "train"


def _blocks(scenes: Scenes, missing: Sequence[int]) -> Iterator[range]:
    """The missing seeds in consecutive stretches of at most `scenes.together`."""
    first = 0
    for index, seed in enumerate(missing):
        following = missing[index + 1] if index + 1 < len(missing) else None
        if following != seed + 1 or index + 1 - first == scenes.together:
            yield range(missing[first], seed + 1)
            first = index + 1


def _claim(folder: Path, scenes: Scenes) -> None:
    """Notes what the folder is for, or checks that it is for the same.

    Raises:
        ValueError: it holds other scenes.
        FileExistsError: it holds something else.
    """
    plan = {"name": scenes.name, "simulate": _described(scenes.simulate)}
    path = folder / PLAN_FILE
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != plan:
            raise ValueError(f"{folder} holds scenes of {found}, expected {plan}; choose another folder")
        names = {scenes.path(folder, seed).name for seed in scenes.seeds}
        others = sorted(one.name for one in folder.glob(f"[!.]*{SUFFIX}") if one.name not in names)
        if others:
            raise ValueError(
                f"{folder} holds {others[0]}, which is none of the {scenes.num} scenes asked for; ask for "
                "at least as many as are there, or choose another folder"
            )
        return
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds files that are no recorded scenes; choose an empty folder")
    with replacing(path) as stream:
        stream.write(f"{json.dumps(plan, indent=1)}\n".encode())


def _described(simulate: Callable[..., Any]) -> dict[str, Any]:
    """What decides the scenes: the function and its arguments, as JSON."""
    if isinstance(simulate, partial):
        arguments = json.loads(json.dumps([simulate.args, simulate.keywords], default=repr, sort_keys=True))
        return {**_described(simulate.func), "arguments": arguments}
    return {"function": f"{simulate.__module__}.{simulate.__qualname__}"}


def _finish(folder: Path, scenes: Scenes, *, val: float, test: float) -> Recorded:
    """Reads every shard once, and writes the split."""
    spans: dict[str, list[Span]] = {"train": [], "val": [], "test": []}
    minutes = dict.fromkeys(spans, 0.0)
    for seed in scenes.seeds:
        one, part = load_recording(scenes.path(folder, seed)), part_of(seed, val=val, test=test)
        spans[part].append(Span(one.name, 0, one.num_frames, _standing(one)))
        minutes[part] += float(one.tracks.valid.sum()) * one.dt / 60.0
    save_split(Split(*(tuple(found) for found in spans.values())), folder / SPLIT_FILE)
    for left in folder.glob(f".*{SUFFIX}.*.part"):  # by workers that were killed
        left.unlink(missing_ok=True)
    return Recorded(_three([len(found) for found in spans.values()]), _three(list(minutes.values())))


def _standing(recording: Recording) -> tuple[int, ...]:
    """The numbers of what never moves."""
    tracks = recording.tracks
    fastest = np.where(tracks.valid, np.abs(tracks.state[..., SPEED]), 0.0).max(axis=1)
    return tuple(tracks.ids[fastest < MOVING].tolist())


def _three(values: Sequence[Any]) -> tuple[Any, Any, Any]:
    train, val, test = values
    return train, val, test
