"""Stages, each a command of its own in a process of its own: in order, cached by content, resumable.

A stage is run again when its configuration or a file of a stage it needs has changed, and only then. What a
stage does is known to its command alone; here are names, arguments and files.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

from worldmodel.app.stage import Stage, fill, stage_of
from worldmodel.atomic import replacing

RECORDS = ".stages"
"""Folder with what is known of each stage: NAME.json, NAME.log, NAME.lock."""
PATIENCE = 10.0
"""Time that interrupted processes have to put down what they do [s]."""
POLL = 0.2
"""Time between two looks at a lock [s]."""

Describe = Callable[[str, Sequence[str]], str]
"""Command, overrides -> everything that its result depends on, as text."""
Argv = Callable[[str, Sequence[str]], list[str]]
"""Command, overrides -> the process."""


@dataclass(frozen=True)
class Outcome:
    """How a stage ended.

    Attributes:
        status: `done`, `cached`, `failed` or `skipped`.
        seconds: that it took, when it was done [s].
        reason: why it failed or was skipped.
    """

    status: str
    seconds: float = 0.0
    reason: str = ""

    @property
    def is_good(self) -> bool:
        return self.status in ("done", "cached")


class Pipeline:
    """Runs stages below a folder.

    Args:
        folder: each stage gets a folder of its name in it.
        argv: turns command and overrides into a process.
        describe: what a stage's result depends on, beside the files of the stages it needs.
        jobs: stages at a time.
        environment: of the processes, beside our own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        argv: Argv,
        describe: Describe,
        jobs: int = 1,
        environment: Mapping[str, str] | None = None,
        console: Console | None = None,
    ) -> None:
        self.folder, self.records = folder, folder / RECORDS
        self.argv, self.describe, self.jobs = argv, describe, jobs
        self.environment = {**os.environ, **(environment or {})}
        self.console = console or Console(stderr=True)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopped = threading.Event()

    def run(self, stages: Sequence[Stage]) -> dict[str, Outcome]:
        """Runs what is not there yet, in the given order as far as the needs allow, and returns how it went.

        A stage that fails takes those with it that need it; the others go on.
        """
        self.records.mkdir(parents=True, exist_ok=True)
        outcomes: dict[str, Outcome] = {}
        waiting, busy = list(stages), dict[Future[Outcome], Stage]()
        bar = Progress(
            BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=self.console, disable=not self.console.is_terminal, transient=True,
        )  # fmt: skip
        with bar, ThreadPoolExecutor(self.jobs) as pool:
            task = bar.add_task("", total=len(stages))
            try:
                while waiting or busy:
                    before, waiting = len(waiting), self._start(waiting, outcomes, busy, pool)
                    if not busy:
                        if len(waiting) == before:
                            raise ValueError(f"stage {waiting[0].name!r} waits for itself; correct its needs")
                        continue
                    for one in wait(busy, return_when=FIRST_COMPLETED).done:
                        stage = busy.pop(one)
                        outcomes[stage.name] = one.result()
                        self._say(stage, outcomes[stage.name], f"{len(outcomes)}/{len(stages)}")
                        bar.update(task, completed=len(outcomes))
            except BaseException:
                self.stop()
                raise
        return {one.name: outcomes[one.name] for one in stages}

    def done(self, stages: Sequence[Stage]) -> set[str]:
        """Returns the names of those whose results are there, and would not be made anew by `run`."""
        found: set[str] = set()
        for stage in stages:
            needed = {stage_of(one) for one in stage.needs.values()}
            was_run = bool(self._read(stage))  # its key takes a while
            if was_run and needed <= found and self._is_done(stage, self._key(stage)):
                found.add(stage.name)
        return found

    def stop(self) -> None:
        """Interrupts the running processes and starts no more."""
        self._stopped.set()
        running = list(self._running.values())
        for process in running:
            _signal(process, signal.SIGINT)
        deadline = time.monotonic() + PATIENCE
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)

    def log(self, stage: Stage) -> Path:
        """What the stage's process has said."""
        return self.records / f"{stage.name}.log"

    def _start(
        self,
        waiting: Sequence[Stage],
        outcomes: dict[str, Outcome],
        busy: dict[Future[Outcome], Stage],
        pool: ThreadPoolExecutor,
    ) -> list[Stage]:
        """Submits what can run and returns the rest; what can never run is an outcome already."""
        rest = []
        for stage in waiting:
            needed = [stage_of(one) for one in stage.needs.values()]
            missing = [name for name in needed if name not in outcomes]
            bad = [name for name in needed if name in outcomes and not outcomes[name].is_good]
            if bad:
                outcomes[stage.name] = Outcome("skipped", reason=f"needs {bad[0]}")
                self._say(stage, outcomes[stage.name], "")
            elif not missing and len(busy) < self.jobs:
                busy[pool.submit(self._attempt, stage)] = stage
            else:
                rest.append(stage)
        return rest

    def _attempt(self, stage: Stage) -> Outcome:
        """Runs the stage unless it is done; while another run's process is still at it, waits."""
        try:
            with self._locked(stage) as lock:
                key = self._key(stage)
                if self._is_done(stage, key):
                    return Outcome("cached", self._read(stage)["seconds"])
                return self._execute(stage, key, lock)
        except (ValueError, OSError) as error:
            return Outcome("failed", reason=" ".join(str(error).split()))

    def _execute(self, stage: Stage, key: str, lock: int) -> Outcome:
        folder = self.folder / stage.name
        if self._read(stage).get("key") != key:
            shutil.rmtree(folder, ignore_errors=True)  # what another configuration has left
        self._write(stage, {"key": key})
        begin = time.monotonic()
        code = self._process(stage, folder, lock)
        if self._stopped.is_set():
            return Outcome("failed", reason="interrupted")
        if code:
            return Outcome("failed", reason=self._last_words(stage) or f"exit code {code}")
        lost = [one for one in stage.outputs if not (folder / one).is_file()]
        if lost:
            return Outcome("failed", reason=f"left no {lost[0]}")
        seconds = round(time.monotonic() - begin, 1)
        outputs = {one: _digest(folder / one) for one in stage.outputs}
        self._write(stage, {"key": key, "seconds": seconds, "outputs": outputs})
        return Outcome("done", seconds)

    def _process(self, stage: Stage, folder: Path, lock: int) -> int:
        folders = {alias: str(self.folder / need) for alias, need in stage.needs.items()}
        overrides = [*(fill(text, folders) for text in stage.overrides), f"run={folder}"]
        if self._stopped.is_set():
            return 1
        with self.log(stage).open("wb") as log:
            # The process holds the lock too: it may outlive us, and then nobody else starts its stage.
            process = subprocess.Popen(
                self.argv(stage.command, overrides),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=self.environment, pass_fds=[lock], start_new_session=True,
            )  # fmt: skip
            self._running[stage.name] = process
            code = process.wait()
            del self._running[stage.name]
        return code

    def _key(self, stage: Stage) -> str:
        """Returns a hash of all that decides the stage's result."""
        needed = {alias: self._digests(need) for alias, need in sorted(stage.needs.items())}
        # An alias in place of a folder: a run folder that was moved is no other configuration.
        aliases = {alias: f"/{alias}" for alias in stage.needs}
        text = self.describe(stage.command, [fill(one, aliases) for one in stage.overrides])
        return hashlib.sha256(json.dumps([stage.command, text, needed], sort_keys=True).encode()).hexdigest()

    def _digests(self, need: str) -> Any:
        """Of a file that is needed, or of all outputs of a stage."""
        name, _, file = need.partition("/")
        outputs = self._read_name(name).get("outputs", {})
        return outputs.get(file) if file else outputs

    def _is_done(self, stage: Stage, key: str) -> bool:
        """Whether the stage ended with this key, and what it left is there and as it was."""
        folder, record = self.folder / stage.name, self._read(stage)
        return record.get("key") == key and all(
            (folder / one).is_file() and _digest(folder / one) == record.get("outputs", {}).get(one)
            for one in stage.outputs
        )

    @contextmanager
    def _locked(self, stage: Stage) -> Iterator[int]:
        with (self.records / f"{stage.name}.lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.console.print(f"{stage.name}: waiting for what an earlier run has left at work")
                self._wait_for(stream)
            yield stream.fileno()

    def _wait_for(self, stream: IO[str]) -> None:
        while not self._stopped.wait(POLL):
            try:
                return fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
        raise ValueError("interrupted")

    def _read(self, stage: Stage) -> dict[str, Any]:
        return self._read_name(stage.name)

    def _read_name(self, name: str) -> dict[str, Any]:
        path = self.records / f"{name}.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return found

    def _write(self, stage: Stage, record: Mapping[str, Any]) -> None:
        with replacing(self.records / f"{stage.name}.json") as stream:
            stream.write(json.dumps(record, indent=1).encode())

    def _last_words(self, stage: Stage) -> str:
        lines = self.log(stage).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def _say(self, stage: Stage, outcome: Outcome, count: str) -> None:
        if outcome.status == "done":
            text = f"{outcome.seconds:.0f} s"
        elif outcome.status == "failed":
            text = f"FAILED: {outcome.reason} ({self.log(stage)})"
        else:
            text = f"{outcome.status} {outcome.reason}".strip()
        self.console.print(f"{count:>8s} {stage.name}: {text}", highlight=False, markup=False)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Signals a stage's process and those that it has started itself, as Ctrl-C in a terminal would."""
    if process.poll() is None:
        os.killpg(process.pid, number)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
