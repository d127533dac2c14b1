"""Tables of text, plain or gzipped, read in chunks of columns; whatever is wrong is reported with its line.

The fast path never looks at single lines. Only once it fails is the file read again, slowly, to find the line
at fault. Nothing here knows what the columns mean.
"""

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from worldmodel.data.error import RecordingError

CHUNK_BYTES = 1 << 22
GZIP_MAGIC = b"\x1f\x8b"

Columns = dict[str, np.ndarray]


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """Opens a file, unpacking it if it is gzipped, whatever its name says.

    Raises:
        RecordingError: where there is no such file.
    """
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise RecordingError(path, None, "no such file; check the path") from None
    except IsADirectoryError:
        raise RecordingError(path, None, "a folder, expected a file; name one of the files in it") from None
    with stream:
        is_gzip = stream.read(2) == GZIP_MAGIC
        stream.seek(0)
        if is_gzip:
            with gzip.GzipFile(fileobj=stream) as unpacked, io.BufferedReader(unpacked) as buffered:
                yield buffered  # type: ignore[misc]
        else:
            yield stream


def first_line(path: Path) -> str:
    """Returns a text file's first line, without byte-order mark.

    Raises:
        RecordingError: where the file is missing or empty.
    """
    with open_bytes(path) as stream:
        line = _guard(path, lambda: stream.readline(1 << 16))
    if not line:
        raise RecordingError(
            path, 1, "the file is empty, expected recorded vehicles; was it downloaded completely?"
        )
    return line.decode("utf-8-sig", errors="replace").strip()


def read_header(path: Path) -> list[str]:
    """Returns the names in a CSV file's first line, without quotes and blanks."""
    return [name.strip() for name in next(csv.reader([first_line(path)]), [])]


def read_csv(
    path: Path, numbers: Sequence[str], *, texts: Sequence[str] = ()
) -> Iterator[tuple[int, Columns]]:
    """Yields chunks: the first row's line number, and columns (float64 for `numbers`, else objects).

    Names are those of the header, which may list further columns. Thousands separators ("1,156") are read.

    Raises:
        RecordingError: for a missing column, a wrong number of fields, a number that is none or not finite, a
            file cut short.
    """
    header = read_header(path)
    missing = [name for name in (*numbers, *texts) if name not in header]
    if missing:
        raise RecordingError(
            path, 1, f"no column {missing[0]!r}, found {','.join(header)[:200]!r}; is it another format?"
        )
    row = 2
    with open_bytes(path) as stream:
        try:
            for batch in _batches(stream, header, (*numbers, *texts)):
                columns = {name: _numbers(batch.column(name)) for name in numbers}
                if not all(np.isfinite(column).all() for column in columns.values()):
                    raise pa.ArrowInvalid("not finite")
                columns |= {name: batch.column(name).to_numpy(zero_copy_only=False) for name in texts}
                yield row, columns
                row += batch.num_rows
        except (pa.ArrowException, UnicodeDecodeError, ValueError, EOFError, OSError, zlib.error) as error:
            if isinstance(error, RecordingError):
                raise
            _diagnose_csv(path, header, numbers, error)
    if row == 2:
        raise RecordingError(
            path, 2, "a header but no rows, expected recorded vehicles; was it filtered to nothing?"
        )


def read_numbers(
    path: Path, names: Sequence[str], *, chunk_rows: int = 200_000
) -> Iterator[tuple[int, Columns]]:
    """Yields chunks as `read_csv` does, of a file without header: `names` numbers a line.

    Raises:
        RecordingError: for a wrong number of fields, a number that is none or not finite, a file cut short.
    """
    row = 1
    with open_bytes(path) as stream:
        while lines := _guard(path, lambda: stream.readlines(chunk_rows * 120)):
            if b"," in lines[0]:
                lines = [line.replace(b",", b" ") for line in lines]
            try:
                values = np.loadtxt(lines, dtype=np.float64, ndmin=2, comments=None, encoding="utf-8")
            except ValueError:
                values = np.empty((0, 0))
            if values.shape != (len(lines), len(names)) or not np.isfinite(values).all():
                _diagnose_numbers(path, names, lines, first=row)
            yield row, dict(zip(names, values.T, strict=True))
            row += len(lines)
    if row == 1:
        raise RecordingError(
            path, 1, "the file is empty, expected recorded vehicles; was it downloaded completely?"
        )


def stack_chunks(chunks: Iterator[tuple[int, Columns]]) -> tuple[np.ndarray, Columns]:
    """Returns the line number of every row, and whole columns."""
    rows, parts = [], []
    for first, columns in chunks:
        parts.append(columns)
        rows.append(first + np.arange(len(next(iter(columns.values())))))
    return np.concatenate(rows), {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def check(path: Path, rows: np.ndarray, bad: np.ndarray, *, values: np.ndarray, reason: str) -> None:
    """Raises `RecordingError` for the first row that is `bad`; `{got}` in `reason` becomes its value."""
    if bad.any():
        first = int(np.argmax(bad))
        raise RecordingError(path, int(rows[first]), reason.replace("{got}", f"{values[first]:.13g}"))


def _batches(
    stream: io.BufferedReader, header: list[str], wanted: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    return iter(
        pacsv.open_csv(
            pa.PythonFile(stream, mode="r"),
            read_options=pacsv.ReadOptions(
                block_size=CHUNK_BYTES, column_names=header, skip_rows=1, use_threads=False
            ),
            convert_options=pacsv.ConvertOptions(
                include_columns=list(wanted),
                column_types={name: pa.string() for name in header},
                strings_can_be_null=False,
            ),
        )
    )


def _numbers(column: pa.Array) -> np.ndarray:
    plain = pc.replace_substring(pc.utf8_trim_whitespace(column), ",", "")
    return pc.cast(plain, pa.float64()).to_numpy(zero_copy_only=False)


def _guard(path: Path, read):
    """Calls `read`, turning a broken archive into a `RecordingError`."""
    try:
        return read()
    except (EOFError, OSError, zlib.error) as error:
        raise RecordingError(path, None, f"cannot be unpacked ({error}); download it again") from error


def _diagnose_csv(path: Path, header: list[str], numbers: Sequence[str], error: Exception) -> NoReturn:
    """Raises for the first line at fault; `error` is reported where none is found."""
    index = {name: header.index(name) for name in numbers}
    with open_bytes(path) as stream:
        lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
        reader = csv.reader(lines)
        try:
            for fields in reader:
                row = reader.line_num
                if row == 1 or not fields:
                    continue
                if len(fields) != len(header):
                    raise RecordingError(
                        path,
                        row,
                        f"{len(fields)} fields, expected {len(header)} as in the header; was it cut short?",
                    )
                for name, place in index.items():
                    _check_number(path, row, name, fields[place].replace(",", ""))
        except (EOFError, OSError, zlib.error, csv.Error) as broken:
            reason = f"cannot be read beyond this line ({broken}); download it again"
            raise RecordingError(path, reader.line_num, reason) from broken
    raise RecordingError(path, None, f"cannot be read ({error}); expected comma-separated text") from error


def _diagnose_numbers(path: Path, names: Sequence[str], lines: Sequence[bytes], *, first: int) -> NoReturn:
    for row, line in enumerate(lines, start=first):
        fields = line.decode("utf-8", errors="replace").split()
        if len(fields) != len(names):
            raise RecordingError(
                path,
                row,
                f"{len(fields)} fields, expected {len(names)}; is the file cut short or another format?",
            )
        for name, field in zip(names, fields, strict=True):
            _check_number(path, row, name, field)
    raise RecordingError(path, first, "cannot be read as numbers; expected text")


def _check_number(path: Path, row: int, name: str, field: str) -> None:
    try:
        number = float(field)
    except ValueError:
        raise RecordingError(path, row, f"{name} is {field!r}, expected a number; correct the line") from None
    if not math.isfinite(number):
        raise RecordingError(path, row, f"{name} is {field}, expected a finite number; remove the line")
