"""The one error that everything reading or writing recordings raises for bad input."""

from os import PathLike
from pathlib import Path


class RecordingError(ValueError):
    """A recording cannot be used as it is: names the file, the row, what was found and what to do about it.

    Args:
        path: the file (or folder) at fault.
        row: its line, counted from 1, header included; None where the fault is not in one line.
        reason: what was found, what was expected, what to do.

    Example:
        >>> str(RecordingError("tracks.csv", 7, "speed is 'fast', expected a number [m/s]; correct it"))
        "tracks.csv, row 7: speed is 'fast', expected a number [m/s]; correct it"
    """

    def __init__(self, path: str | PathLike[str], row: int | None, reason: str) -> None:
        self.path, self.row, self.reason = Path(path), row, reason
        place = str(path) if row is None else f"{path}, row {row}"
        super().__init__(f"{place}: {reason}")

    def __reduce__(self) -> tuple[type, tuple[Path, int | None, str]]:
        return type(self), (self.path, self.row, self.reason)
