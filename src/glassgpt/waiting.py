"""How threads wait for each other: on a busy machine, they sleep instead of spinning, which frees their cores.

A thread that waits for the others of its team spins for some milliseconds before it sleeps. On an idle machine this is
fastest. On a busy one, a thread that spins uses up the time that the system would give to the thread it waits for. On
Linux, where torch uses GCC's OpenMP library (libgomp), this can be changed at any moment without any effect on results:
if there are more threads than cores, libgomp makes waiting threads sleep at once. A second team of threads that does
nothing is enough for that. On other systems, nothing changes.
"""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from ctypes import CDLL, c_uint, c_void_p, cast
from functools import cache
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import TYPE_CHECKING

from glassgpt.threads import are_several, cores

if TYPE_CHECKING:
    import torch

SECONDS = 0.2  # between checks
BUSY, FREE = 0.25, 0.1  # seconds per second that threads wait for a core: busy above the first, free below the second
FREE_LOOKS = 5  # consecutive checks until a machine counts as free again
IDLE = 0.2  # seconds of CPU time per second: below it, this process is idle
IDLE_LOOKS = 10  # consecutive checks until watching ends
_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # set by users who choose how threads wait


class Contention:
    """Whether other programs take cores that this process's threads need, with hysteresis."""

    def __init__(self) -> None:
        self.found = False
        self._free_looks = 0

    def look(self, waited: float) -> bool:
        """Update with the seconds per second, over all threads, spent waiting for a core since the last check."""
        if self.found:
            self._free_looks = self._free_looks + 1 if waited < FREE else 0
            self.found = self._free_looks < FREE_LOOKS
        elif waited > BUSY:
            self.found, self._free_looks = True, 0
        return self.found


class SecondTeam:
    """A team of sleeping threads: while it exists, libgomp counts more threads than cores."""

    def __init__(self, gomp: CDLL):
        self._gomp = gomp
        self._end = threading.Event()
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), name="glassgpt-second-team", daemon=True).start()
        started.wait()

    def _run(self, started: threading.Event) -> None:
        import torch

        nothing = cast(self._gomp.omp_get_thread_num, c_void_p)  # what each thread of the team does
        # Together with torch's team, one thread more than there are cores. This thread belongs to its own team.
        size = cores() - torch.get_num_threads() + 2
        self._gomp.GOMP_parallel(nothing, None, c_uint(max(2, size)), c_uint(0))
        started.set()
        self._end.wait()  # when this thread ends, its team ends too

    def end(self) -> None:
        """Let waiting threads spin again."""
        self._end.set()


class Watch:
    """Checks five times a second, in a background thread, whether threads wait for a core; stops when work ends.

    Args:
        second_team: function that starts a second team.
        waited: function that returns the seconds this process's threads have waited for a core so far.
        worked: function that returns the seconds of CPU time this process has used so far.
    """

    def __init__(
        self,
        second_team: Callable[[], SecondTeam],
        waited: Callable[[], float],
        worked: Callable[[], float] = process_time,
    ):
        self._second_team, self._waited, self._worked = second_team, waited, worked
        self._contention = Contention()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def contention(self) -> bool:
        """Whether threads wait for a core."""
        return self._contention.found

    def begin(self) -> None:
        """Start watching, until this process is idle."""
        if self._is_looking():
            return
        with self._lock:
            if not self._is_looking():  # no other thread was faster
                self._thread = threading.Thread(target=self._look_on, name="glassgpt-waiting", daemon=True)
                self._thread.start()

    def _is_looking(self) -> bool:
        return self._thread is not None and self._thread.is_alive()  # not alive: this process is a fork

    def _look_on(self) -> None:
        team: SecondTeam | None = None
        idle_looks = 0
        last = self._figures()
        while idle_looks < IDLE_LOOKS:
            sleep(SECONDS)
            now = self._figures()
            seconds, waited, worked = (after - before for after, before in zip(now, last, strict=True))
            last = now
            found = self._contention.look(waited / seconds)
            if found and team is None:
                team = self._second_team()
            elif not found and team is not None:
                team.end()
                team = None
            idle_looks = idle_looks + 1 if worked < IDLE * seconds else 0
        if team is not None:
            team.end()
        self._contention.found = False
        self._thread = None

    def _figures(self) -> tuple[float, float, float]:
        return perf_counter(), self._waited(), self._worked()


def begin_work(device: "torch.device") -> None:
    """Note that work begins or continues on a device: until it ends, how threads wait depends on the load."""
    if device.type == "cpu" and are_several() and (found := watch()) is not None:
        found.begin()


@cache
def watch() -> Watch | None:
    """The watch of this process; None if waiting cannot be changed, or if the user has set how threads wait."""
    if sys.platform != "linux" or cores() < 2 or any(map(os.environ.get, _SETTINGS)) or not _seconds_waited():
        return None
    gomp = _libgomp()
    return None if gomp is None else Watch(lambda: SecondTeam(gomp), _seconds_waited)


def _libgomp() -> CDLL | None:
    """The OpenMP library that torch has loaded, if it is GCC's."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        paths = {line.split(maxsplit=5)[5] for line in maps if "libgomp" in line.rpartition("/")[2]}
        gomp = CDLL(min(paths, key=lambda path: "torch" not in path))
        return gomp if gomp.GOMP_parallel and gomp.omp_get_thread_num else None
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def _seconds_waited() -> float:
    """Seconds that this process's threads have waited for a core since they started; 0 if the system does not count."""
    total = 0
    with suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            with suppress(OSError, IndexError, ValueError):  # a thread that has just ended
                total += int((task / "schedstat").read_text(encoding="ascii").split()[1])
    return total / 1e9
