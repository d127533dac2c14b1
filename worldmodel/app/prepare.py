"""`worldmodel prepare`: recordings of any known format -> checked, consistent, split by time, stored.

Or simulated scenes, recorded one by one (`worldmodel.data.record`).
"""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from worldmodel.app.compose import Config, build, require
from worldmodel.app.source import split_all
from worldmodel.data import RecordingError, save_store
from worldmodel.data.record import record
from worldmodel.data.smooth import make_consistent
from worldmodel.data.split import PARTS
from worldmodel.scene import Recording
from worldmodel.scene.validate import summary, validate

FATAL = ("shape", "time", "id", "nan", "size")
"""Problems that no smoothing mends."""
SHOWN = 5
LISTED = 10
READS = "${path}"
"""In the configuration of a source that reads something."""


def main(config: Config) -> None:
    """Reads `path` or simulates, writes the store `out`, prints what is in it."""
    console = Console(stderr=True)
    if READS in OmegaConf.to_yaml(config.source):
        _read(config, console)
    else:
        _record(config, console)
    print(f"{config.out}/")
    paths = [path for path in sorted(Path(config.out).iterdir()) if not path.name.startswith(".")]
    for path in paths[:LISTED]:
        print(f"  {path.name}")
    if len(paths) > LISTED:
        print(f"  and {len(paths) - LISTED} more")


def _read(config: Config, console: Console) -> None:
    require(config, "path")
    if not Path(config.path).exists():
        raise RecordingError(config.path, None, "no such file or folder; give path= what is to be read")
    found = build(config.source)
    recordings: Sequence[Recording] = [found] if isinstance(found, Recording) else list(found)
    for one in recordings:
        _check(one, config.path, console)
    with console.status("making the tracks consistent with the vehicle model"):
        consistent = [make_consistent(one) for one in recordings]
    save_store(consistent, split_all(consistent, **config.split), config.out)
    for one in consistent:
        print(summary(one))


def _record(config: Config, console: Console) -> None:
    with Progress(
        TextColumn("scenes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as bar:
        task = bar.add_task("", total=None)
        found = record(
            build(config.source),
            config.out,
            val=config.split.val,
            test=config.split.test,
            workers=build(config.workers),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for part, scenes, minutes in zip(PARTS, found.num_scenes, found.vehicle_minutes, strict=True):
        print(f"{part}: {scenes} scenes, {minutes:.1f} vehicle-minutes")


def _check(recording: Recording, path: str, console: Console) -> None:
    problems = validate(recording)
    for problem in problems[:SHOWN]:
        console.print(f"{recording.name}: {problem}", highlight=False, markup=False)
    if len(problems) > SHOWN:
        console.print(f"{recording.name}: and {len(problems) - SHOWN} more")
    if fatal := [problem for problem in problems if problem.kind in FATAL]:
        raise RecordingError(path, None, f"recording {recording.name!r} cannot be used: {fatal[0]}")
