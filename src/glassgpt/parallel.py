"""The same function over many items in several processes, in order and with bounded memory."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

from glassgpt.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
_IN_FLIGHT = 2  # items a worker: one under way, one waiting


class WorkerKilledError(UserError):
    """A process that worked for this one was killed."""


_function: Callable[[Any], Any]  # in a worker: what it was started for


def usable_cores() -> int:
    """How many processes can run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`map(function, items)` in `workers` processes; the results come in the items' order, whatever that number is.

    Items are taken only as fast as results are, so both may be many and large. With one worker, everything runs in
    this process. The function goes to each worker once, so it may carry a lot.

    Raises:
        WorkerKilledError: a worker was killed, as the operating system does when memory runs out.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    # Spawned, not forked: a fork copies locks that torch's threads hold. It is also what Windows and macOS do.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin, initargs=(function,))
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_call, item))
            if len(waiting) >= _IN_FLIGHT * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise WorkerKilledError(
            "a worker process was killed, perhaps for memory: try again with fewer workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(function: Callable[[Any], Any]) -> None:
    global _function  # noqa: PLW0603 - a worker process has one task in its life
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(item: Any) -> Any:
    return _function(item)
