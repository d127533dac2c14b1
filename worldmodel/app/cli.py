"""The console script: `worldmodel COMMAND [key=value ...]`.

Composes `configs/COMMAND.yaml` with the overrides and runs `worldmodel.app.COMMAND`. Some commands take a
checkpoint as their first word: `worldmodel check model.pt` is `worldmodel check checkpoint=model.pt`. What a
user can mend becomes one line on stderr and an exit code: 1 failed, 2 wrong usage, 130 interrupted, 143
terminated. WORLDMODEL_DEBUG=1 shows where it came from.
"""

import errno
import importlib
import os
import re
import sys
from collections.abc import Sequence

from worldmodel.app.help import COMMANDS, overview, page


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` and returns the exit code."""
    _tame_threads()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(importlib.import_module("worldmodel").__version__)
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        return _fail(f"unknown command {name!r}; expected one of {', '.join(COMMANDS)}", 2)
    if {"-h", "--help"} & set(rest):
        print(page(name))
        return 0
    try:
        return _run(name, rest)
    except KeyboardInterrupt:
        return _fail(f"interrupted; what {name} had finished is kept", 130)
    except SystemExit as end:  # without a code it is Lightning's word for SIGTERM
        if end.code:
            raise
        return _fail(f"interrupted; what {name} had finished is kept", 143)
    except Exception as error:
        if os.environ.get("WORLDMODEL_DEBUG") == "1":
            raise
        return _explain(error)


def _tame_threads() -> None:
    """Sets what the OpenMP and numba libraries read when they load, which is later than this.

    With another busy process on the machine, spinning OpenMP threads make torch tens of times slower, and
    numba's OpenMP layer resets torch's number of threads.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")


def _run(name: str, arguments: list[str]) -> int:
    # Imported here, so that --help does not wait for torch and Hydra.
    from worldmodel.app.compose import SEARCH, SEARCHPATH

    # What a command composes within, and the processes of its stages, look where it looks.
    searched = [argument for argument in arguments if argument.startswith(SEARCHPATH)]
    if not searched:
        return _start(name, arguments)
    os.environ[SEARCH] = searched[-1]
    try:
        return _start(name, arguments)
    finally:
        del os.environ[SEARCH]


def _start(name: str, arguments: list[str]) -> int:
    from worldmodel.app.compose import check_numbers, compose, show

    at = arguments.index("--cfg") if "--cfg" in arguments else len(arguments)
    only_show = arguments[at : at + 2] == ["--cfg", "job"]
    if only_show:
        arguments = arguments[:at] + arguments[at + 2 :]
    takes = COMMANDS[name].takes
    if takes and arguments and not _is_override(arguments[0]):
        arguments = [f"{takes}={_quoted(arguments[0])}", *arguments[1:]]
    wrong = [argument for argument in arguments if not _is_override(argument)]
    if wrong:
        return _fail(f"{wrong[0]!r} is no override; write key=value, or see worldmodel {name} --help", 2)
    config = compose(name, arguments)
    if only_show:
        print(show(config))
    else:
        check_numbers(config)
        importlib.import_module(f"worldmodel.app.{name}").main(config)
    return 0


def _is_override(argument: str) -> bool:
    return "=" in argument or argument.startswith("~")


def _quoted(word: str) -> str:
    """As Hydra reads it, whatever characters there are."""
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _explain(error: Exception) -> int:
    from omegaconf import MissingMandatoryValue

    from worldmodel.app.compose import UsageError

    # Hydra wraps what a constructor raised; the cause is the message that helps.
    wrapped = str(error)
    while type(error).__module__.startswith("hydra") and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, UsageError):
        return _fail(str(error), 2)
    if isinstance(error, MissingMandatoryValue):
        return _fail(f"{error.full_key} is missing; add {error.full_key}=... to the command", 2)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return _fail(f"the disk is full: {error.filename or 'could not write'}; make room and start again", 1)
    if isinstance(error, ValueError | OSError | ImportError):
        return _fail(str(error), 1)
    if made := re.search(r"full_key: ([\w.]+)", wrapped):
        return _fail(f"{made[1]} cannot be made of its values: {type(error).__name__}: {error}", 1)
    hint = "; this is a mistake in the program, WORLDMODEL_DEBUG=1 shows where"
    return _fail(f"{type(error).__name__}: {error}{hint}", 1)


def _fail(message: str, code: int) -> int:
    print(f"worldmodel: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
