"""The same function over many items in several processes, in order and with bounded memory."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import current_process, get_context, parent_process
from typing import Any, TypeVar

from glassgpt.errors import UserError
from glassgpt.threads import cores

Item = TypeVar("Item")
Result = TypeVar("Result")
_GUARD = "a script of your own needs `if __name__ == '__main__':` around what it does"
_MOST_WORKERS = 8  # unless asked for: each takes some 60 MB
_IN_FLIGHT = 2  # items a worker: one under way, one waiting


class WorkerKilledError(UserError):
    """A process that worked for this one was killed."""


_function: Callable[[Any], Any]  # in a worker: what it was started for


def usable_cores() -> int:
    """How many processes to work in, if no one says."""
    return min(cores(), _MOST_WORKERS)


def require_main_process() -> None:
    """Make sure that this is no worker that is only beginning, and runs the script that started it once more.

    Raises:
        UserError: it is: the script has no guard.
    """
    if getattr(current_process(), "_inheriting", False):  # multiprocessing's own mark of that moment
        raise UserError(_GUARD)


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
        _start_workers(pool, workers)
        for item in items:
            waiting.append(pool.submit(_call, item))
            if len(waiting) >= _IN_FLIGHT * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise WorkerKilledError(f"a worker process ended: if memory ran out, try fewer workers; {_GUARD}") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_workers(pool: ProcessPoolExecutor, workers: int) -> None:
    """Start them with Ctrl-C ignored, which they inherit: it is the main process's to answer."""
    try:
        old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread
        old = None
    for _ in range(workers):
        pool.submit(int)  # a worker is started for each item that waits
    if old is not None:
        signal.signal(signal.SIGINT, old)


def _begin(function: Callable[[Any], Any]) -> None:
    global _function  # noqa: PLW0603 - a worker process has one task in its life
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(item: Any) -> Any:
    return _function(item)
