"""What every benchmark shares: one thread, a timer, a table, and the same numbers as JSON."""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

# Read when the libraries load: import this module before torch and numba.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")


def parser(description: str) -> argparse.ArgumentParser:
    """Returns a command line that knows `--json`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers there")
    return parser


def parse(description: str) -> Path | None:
    """Returns where the command line wants the JSON, if anywhere."""
    return parser(description).parse_args().json


def rate(work: Callable[[], object], *, count: int, repeats: int = 7) -> float:
    """Returns how many of `work`'s `count` things are done per CPU second: median, after a warm-up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return count / statistics.median(times)


def report(name: str, rows: dict[str, float], json_path: Path | None = None) -> None:
    """Prints the rows as a table and, given a path, writes them as JSON with the machine and the versions."""
    width = max(map(len, rows))
    print(f"{name} ({machine()['cpu']}, load {os.getloadavg()[0]:.1f})")
    for key, value in rows.items():
        print(f"  {key:<{width}}  {value:>14,.{0 if abs(value) >= 1000 else 2}f}")
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps({"benchmark": name, **rows, "machine": machine()}, indent=1) + "\n")


def machine() -> dict[str, str | int]:
    """Returns what the numbers were measured on and with."""
    import numba
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0].strip() if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": numba.__version__,
    }
