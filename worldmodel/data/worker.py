"""Who does the work: this process, several, or a Ray cluster. Knows nothing of what the work is.

A `Workers` is called with a function and its arguments, and yields the arguments whose work is done, in any
order. Few are handed out ahead, so that memory does not grow with their number.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from typing import Any, Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")
AHEAD = 2
"""Items handed out for each worker, the one it is at included."""


@runtime_checkable
class Workers(Protocol):
    """Does `work` for every item; yields each item when its work is done."""

    def __call__(self, work: Callable[[Item], None], items: Iterable[Item]) -> Iterator[Item]: ...


class LocalWorkers:
    """This process, or `num` processes of this machine with one thread each.

    Example:
        >>> seen = []
        >>> list(LocalWorkers()(seen.append, [1, 2])), seen
        ([1, 2], [1, 2])
    """

    def __init__(self, num: int = 1) -> None:
        if num < 1:
            raise ValueError(f"num={num} workers, expected at least 1")
        self.num = num

    def __call__(self, work: Callable[[Item], None], items: Iterable[Item]) -> Iterator[Item]:
        if self.num == 1:
            for item in items:
                work(item)
                yield item
            return
        spawn = multiprocessing.get_context("spawn")  # threads of this process do not survive a fork
        with ProcessPoolExecutor(self.num, mp_context=spawn, initializer=_use_one_thread) as pool:
            todo = iter(items)
            running = {pool.submit(work, item): item for item in islice(todo, AHEAD * self.num)}
            try:
                while running:
                    for done in wait(running, return_when=FIRST_COMPLETED).done:
                        done.result()
                        yield running.pop(done)
                        running |= {pool.submit(work, item): item for item in islice(todo, 1)}
            finally:
                pool.shutdown(cancel_futures=True)


class RayWorkers:
    """All processors of a Ray cluster, one each; what the work writes must lie where every machine sees it.

    Args:
        address: of the cluster, as `auto`; None starts one on this machine.
        num: processors of a cluster that is started here; None: all there are.
    """

    def __init__(self, address: str | None = None, num: int | None = None) -> None:
        self.address, self.num = address, num

    def __call__(self, work: Callable[[Item], None], items: Iterable[Item]) -> Iterator[Item]:
        ray = _ray()
        started = not ray.is_initialized()
        if started:
            options = {} if self.num is None else {"num_cpus": self.num}
            ray.init(address=self.address, include_dashboard=False, log_to_driver=False, **options)
        try:
            remote, handle = ray.remote(num_cpus=1)(_do), ray.put(work)
            todo, ahead = iter(items), AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
            running = {remote.remote(handle, item): item for item in islice(todo, ahead)}
            while running:
                for done in ray.wait(list(running), num_returns=1)[0]:
                    ray.get(done)
                    yield running.pop(done)
                    running |= {remote.remote(handle, item): item for item in islice(todo, 1)}
        finally:
            if started:
                ray.shutdown()


def _do(work: Callable[[Any], None], item: Any) -> None:
    work(item)


def _use_one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "recording on a Ray cluster needs ray; pip install 'highway-worldmodel[ray]'"
        ) from error
    return ray
