"""Items made by a thread: the same ones, their errors too, and no thread left over."""

import threading
import time
from collections.abc import Iterator

import pytest

from worldmodel.data.background import BackgroundLoader, in_background


def loaders() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "loader"]


def test_items_come_in_order() -> None:
    assert list(in_background(range(50), 3)) == list(range(50))
    assert [one.tolist() for one in BackgroundLoader(range(6), batch_size=2, ahead=2)] == [
        [0, 1],
        [2, 3],
        [4, 5],
    ]
    assert loaders() == []


def test_items_are_made_in_advance_but_not_too_far() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    stream = in_background(items(), 2)
    assert next(stream) == 0
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [0, 1, 2, 3]  # one taken, two waiting, one in the hand
    stream.close()  # type: ignore[attr-defined]
    assert loaders() == []


def test_an_error_is_raised_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError("the second")

    stream = in_background(items(), 2)
    assert next(stream) == 1
    with pytest.raises(ZeroDivisionError, match="the second"):
        next(stream)
    assert loaders() == []
