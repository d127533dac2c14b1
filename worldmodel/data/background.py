"""Batches drawn in a thread while the model computes. The renderer works without the GIL, so they overlap."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader

T = TypeVar("T")
_END = object()


class BackgroundLoader(DataLoader[Any]):
    """A `DataLoader` that draws up to `ahead` batches before they are asked for; 0: none.

    A thread costs neither a copy of the recordings nor one of the batches, as worker processes do.
    """

    def __init__(self, *args: Any, ahead: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ahead = ahead

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = super().__iter__()
        return in_background(batches, self.ahead) if self.ahead else batches


def in_background(items: Iterable[T], ahead: int) -> Iterator[T]:
    """Yields the items in order, made by a thread that is at most `ahead` of them ahead.

    What making an item raises is raised here, in its place. The thread ends with the iterator.
    """
    made: queue.Queue[Any] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()
    thread = threading.Thread(target=_make, args=(items, made, stopped), name="loader", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not _END:
            if isinstance(item, _Raised):
                raise item.error
            yield item
    finally:
        stopped.set()
        thread.join()


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def _make(items: Iterable[Any], made: "queue.Queue[Any]", stopped: threading.Event) -> None:
    def put(item: Any) -> bool:
        while not stopped.is_set():
            try:
                made.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    try:
        for item in items:
            if not put(item):
                return
        put(_END)
    except BaseException as error:
        put(_Raised(error))
