"""Metrics as CSV, in a file that an interrupted training can carry on."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from worldmodel.atomic import replacing


class CsvLogger(Logger):
    """One row per logged step: `step`, then the metrics; a metric that comes later gets a column of its own.

    Rows are written as they come, so that a kill loses none. `keep` says how many of an earlier run's stay.

    Args:
        path: of the file; its folder is made.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self.rows: list[dict[str, str]] = []
        self.columns = ["step"]

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.stem

    @property
    def version(self) -> str:
        """None of its own."""
        return ""

    @rank_zero_only
    def keep(self, num_rows: int) -> None:
        """Drops all but the first rows of an older file; 0: starts a new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.rows, self.columns = [], ["step"]
        if num_rows and self.path.exists():
            with self.path.open(encoding="utf-8", newline="") as stream:
                reader = csv.DictReader(stream)
                self.columns = list(reader.fieldnames or self.columns)
                self.rows = [row for _, row in zip(range(num_rows), reader, strict=False)]
        self._rewrite()

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Writes a row."""
        row = {"step": str(step)} | {
            name: repr(float(value)) for name, value in metrics.items() if name != "epoch"
        }
        self.rows.append(row)
        if new := [name for name in row if name not in self.columns]:
            self.columns += sorted(new)
            self._rewrite()
            return
        with self.path.open("a", encoding="utf-8", newline="") as stream:
            csv.DictWriter(stream, self.columns).writerow(row)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Ignores them: the run folder holds the whole configuration."""

    def _rewrite(self) -> None:
        """Replaces the file as a whole: a kill leaves the older rows or all of them."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as stream:
            stream.write(text.getvalue().encode())


def read_metrics(path: Path) -> Mapping[str, Sequence[tuple[int, float]]]:
    """Returns `{name: [(step, value)]}` of a file of `CsvLogger`."""
    found: dict[str, list[tuple[int, float]]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        row: dict[str, Any]
        for row in csv.DictReader(stream):
            for name, value in row.items():
                if name != "step" and value:
                    found.setdefault(name, []).append((int(row["step"]), float(value)))
    return found
