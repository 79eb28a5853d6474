"""The same in several processes: the same results, in order, and an end to every worker."""

import contextlib
import math
import operator
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassgpt.errors import UserError
from glassgpt.parallel import ordered_map, usable_cores


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_the_results_come_in_the_items_order(workers: int) -> None:
    sizes = [200_000, 1, 50_000, 3] * 5  # the later ones are done sooner
    assert list(ordered_map(math.factorial, [size // 50 for size in sizes], workers)) == [
        math.factorial(size // 50) for size in sizes
    ]
    assert list(ordered_map(operator.neg, [], workers)) == []


def test_one_worker_is_this_process() -> None:
    assert list(ordered_map(lambda _: os.getpid(), range(2), 1)) == [os.getpid()] * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_taken_only_as_fast_as_results_are(workers: int) -> None:
    taken = 0
    closed = False

    def items() -> Iterator[int]:
        nonlocal taken, closed
        try:
            for number in range(1_000):
                taken += 1
                yield number
        finally:
            closed = True

    source = items()
    results = ordered_map(operator.neg, source, workers)
    for number in range(20):
        assert next(results) == -number
        assert taken <= number + 1 + 2 * workers
    results.close()  # type: ignore[attr-defined]
    source.close()  # type: ignore[attr-defined]
    assert closed and taken <= 20 + 2 * workers


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_reaches_the_caller_after_the_results_before_it(workers: int) -> None:
    results = ordered_map(int, ["1", "2", "three", "4"], workers)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_an_exception_of_the_items_reaches_the_caller() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(ordered_map(operator.neg, items(), 2))


def test_a_killed_worker_is_one_line() -> None:
    with pytest.raises(UserError, match="worker process ended") as error:
        list(ordered_map(os._exit, [1] * 20, 2))
    assert "\n" not in str(error.value)


def test_some_cores_are_usable() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


PROGRAM = """
import os, sys, time
from glassgpt.parallel import ordered_map

def process(seconds):
    time.sleep(seconds)
    return os.getpid()

if __name__ == "__main__":
    results = ordered_map(process, [0.05] * 8 + [float(sys.argv[1])] * 8, 2)
    print(*{next(results) for _ in range(8)}, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize("busy", [0, 600], ids=["idle", "busy"])
def test_workers_end_with_a_parent_that_is_killed(busy: int, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    parent = subprocess.Popen([sys.executable, program, str(busy)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    try:
        assert workers and parent.pid not in workers
        for worker in workers:
            os.kill(worker, 0)  # alive
        parent.send_signal(signal.SIGKILL)
        # Workers hold the same end of the pipe as their parent: it closes when the last of them has ended.
        assert parent.communicate(timeout=300) == (b"", None)
    finally:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        parent.kill()
        parent.wait()
