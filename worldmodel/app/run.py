"""The folder of a run: made once, written atomically, its stages timed and resumable, named at the end."""

import fcntl
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from worldmodel.app.compose import Config, UsageError, show
from worldmodel.atomic import replacing

PACKAGES = ("highway-worldmodel", "torch", "lightning", "gymnasium", "numpy", "numba")
CONFIG, STAGES, LOCK = "config.yaml", "stages.json", ".lock"


def write_atomic(path: str | Path, content: bytes | str) -> Path:
    """Writes a file that is whole or not there; an older one stays until the new one is complete."""
    path = Path(path)
    encoded = content.encode() if isinstance(content, str) else content
    with replacing(path) as stream:
        stream.write(encoded)
    return path


def versions() -> dict[str, str]:
    """Returns the versions of what decides the result."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


@dataclass
class Run:
    """A run folder; `stage` skips what an earlier, interrupted run of the same folder has finished."""

    folder: Path
    command: str
    console: Console = field(default_factory=lambda: Console(stderr=True))
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def start(cls, config: Config, command: str, *, is_shared: bool = False) -> "Run":
        """Returns the run in `config.run`, or in a new `runs/<command>/<date-time>`; saves the config.

        Until the process ends, no other one can start a run in the folder.

        Args:
            is_shared: a process that belongs to another one, whose folder it is.

        Raises:
            UsageError: the folder is no run's, or another process is at it.
            ValueError: when the folder was made with another configuration.
        """
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        folder = Path(config.run) if config.get("run") else Path("runs") / command / stamp
        _make(folder)
        if not is_shared:
            _lock(folder)
        text = show(OmegaConf.create({key: value for key, value in config.items_ex(False) if key != "run"}))
        saved = folder / CONFIG
        if saved.exists() and saved.read_text(encoding="utf-8") != text + "\n":
            raise ValueError(
                f"{saved} differs from the configuration asked for; repeat the run's own overrides "
                "or use another folder"
            )
        write_atomic(saved, text + "\n")
        write_atomic(folder / "versions.json", json.dumps(versions(), indent=2) + "\n")
        run = cls(folder, command)
        if (folder / STAGES).exists():
            run.seconds = json.loads((folder / STAGES).read_text(encoding="utf-8"))
        return run

    def stage(self, name: str, work: Callable[[], Any], *, files: tuple[str, ...] = ()) -> None:
        """Does a stage unless it is recorded as done and its `files` are there; records its time.

        What was recorded after it is forgotten when it is done again, since later stages read earlier ones.
        """
        if name in self.seconds and all((self.folder / one).exists() for one in files):
            self.console.print(f"[dim]{name}: done before[/dim]")
            return
        done = list(self.seconds)
        for later in done[done.index(name) :] if name in done else ():
            del self.seconds[later]
        with self.timed(name):
            work()
        write_atomic(self.folder / STAGES, json.dumps(self.seconds, indent=2) + "\n")

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Times a part of the run, and says so."""
        self.console.print(f"[bold]{name}[/bold]")
        start = time.perf_counter()
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            self.console.print(f"{name}: go on with run={self.folder}", highlight=False, soft_wrap=True)
            raise
        self.seconds[name] = round(time.perf_counter() - start, 2)
        self.console.print(f"[dim]{name}: {self.seconds[name]:.1f} s[/dim]")

    def write(self, name: str, content: bytes | str | Mapping[str, Any]) -> Path:
        """Writes a file of the run; a mapping becomes JSON."""
        if isinstance(content, Mapping):
            content = json.dumps(content, indent=2, allow_nan=False) + "\n"
        return write_atomic(self.folder / name, content)

    def close(self) -> None:
        """Names the folder and its files."""
        print(f"{self.folder}/")
        for path in sorted(self.folder.iterdir()):
            if not path.name.startswith("."):
                size = f"{path.stat().st_size / 1e3:,.0f} kB" if path.is_file() else "folder"
                print(f"  {path.name:24s} {size:>10s}")


def _make(folder: Path) -> None:
    """Makes the folder, unless it is a run's or empty; hidden files and logs may be there before."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"run={folder} is a file, expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CONFIG).is_file():
        return
    foreign = [one.name for one in folder.iterdir() if not one.name.startswith(".") and one.suffix != ".log"]
    if foreign:
        raise UsageError(
            f"run={folder} holds {min(foreign)} but no {CONFIG}, so it is no run's; give run= a new folder"
        )


def _lock(folder: Path) -> None:
    """Keeps other processes from the folder until this one ends, which unlocks it however it ends."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UsageError(
            f"{folder} is in use by another process; wait for its end, or give run= another folder"
        ) from error


def peak_memory() -> float:
    """Returns the most memory this process has held [GB]."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)
