"""`worldmodel prepare`: recordings of any known format -> checked, consistent, split by time, stored."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from worldmodel.app.compose import Config, build, require
from worldmodel.app.source import split_all
from worldmodel.data import RecordingError, save_store
from worldmodel.data.smooth import make_consistent
from worldmodel.scene import Recording
from worldmodel.scene.validate import summary, validate

FATAL = ("shape", "time", "id", "nan", "size")
"""Problems that no smoothing mends."""
SHOWN = 5


def main(config: Config) -> None:
    """Reads `path`, writes the store `out`, prints what is in it."""
    require(config, "path")
    if not Path(config.path).exists():
        raise RecordingError(config.path, None, "no such file or folder; give path= what is to be read")
    console = Console(stderr=True)
    found = build(config.source)
    recordings: Sequence[Recording] = [found] if isinstance(found, Recording) else list(found)
    for one in recordings:
        _check(one, config.path, console)
    with console.status("making the tracks consistent with the vehicle model"):
        consistent = [make_consistent(one) for one in recordings]
    save_store(consistent, split_all(consistent, **config.split), config.out)
    for one in consistent:
        print(summary(one))
    print(f"{config.out}/")
    for path in sorted(Path(config.out).iterdir()):
        print(f"  {path.name}")


def _check(recording: Recording, path: str, console: Console) -> None:
    problems = validate(recording)
    for problem in problems[:SHOWN]:
        console.print(f"{recording.name}: {problem}", highlight=False, markup=False)
    if len(problems) > SHOWN:
        console.print(f"{recording.name}: and {len(problems) - SHOWN} more")
    if fatal := [problem for problem in problems if problem.kind in FATAL]:
        raise RecordingError(path, None, f"recording {recording.name!r} cannot be used: {fatal[0]}")
