"""How threads wait for each other: on a busy machine not actively, so that they leave their cores to who has work.

A thread that waits for the others of its team spins for some milliseconds before it sleeps. On an idle machine this is
fastest. On a busy one, a thread that spins uses up the time that the system would give to the thread it waits for. On
Linux, where torch uses GCC's OpenMP library (libgomp), it can be changed at any moment, without any effect on what is
computed: libgomp lets threads sleep at once if there are more of them than cores, and a second team of threads that
does nothing is enough for that. Elsewhere, nothing changes.
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

SECONDS = 0.2  # between looks
BUSY, FREE = 0.25, 0.1  # seconds a second that threads wait for a core: more, or less, is taken as such
FREE_LOOKS = 5  # in a row, until a machine is taken as free again
IDLE = 0.2  # seconds of CPU time a second: with less, this process does not compute
IDLE_LOOKS = 10  # in a row, until the watching ends
_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # set by a user who knows how threads should wait


class Contention:
    """Whether other programs take cores that this one's threads need, with hysteresis."""

    def __init__(self) -> None:
        self.found = False
        self._free_looks = 0

    def look(self, waited: float) -> bool:
        """Take the seconds that all threads together waited for a core, in each second since the last look."""
        if self.found:
            self._free_looks = self._free_looks + 1 if waited < FREE else 0
            self.found = self._free_looks < FREE_LOOKS
        elif waited > BUSY:
            self.found, self._free_looks = True, 0
        return self.found


class SecondTeam:
    """A team of threads that sleeps: while it is there, libgomp takes it that there are more threads than cores."""

    def __init__(self, gomp: CDLL):
        self._gomp = gomp
        self._end = threading.Event()
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), name="glassgpt-second-team", daemon=True).start()
        started.wait()

    def _run(self, started: threading.Event) -> None:
        import torch

        nothing = cast(self._gomp.omp_get_thread_num, c_void_p)  # what each thread of the team does
        # With torch's own team, one more thread than there are cores; this one counts as one of its team.
        size = cores() - torch.get_num_threads() + 2
        self._gomp.GOMP_parallel(nothing, None, c_uint(max(2, size)), c_uint(0))
        started.set()
        self._end.wait()  # with this thread its team ends

    def end(self) -> None:
        """Let threads wait actively again."""
        self._end.set()


class Watch:
    """Looks several times a second whether threads wait for a core, in a thread of its own that ends with the work.

    Args:
        second_team: makes one.
        waited: seconds that this process's threads have waited for a core so far.
        worked: seconds of CPU time that this process has had so far.
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
        """Look, from now on until this process is idle."""
        if self._is_looking():
            return
        with self._lock:
            if not self._is_looking():  # nobody else was quicker
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
    """Say that work begins on a device, or goes on: threads wait as suits the load of the machine until it ends."""
    if device.type == "cpu" and are_several() and (found := watch()) is not None:
        found.begin()


@cache
def watch() -> Watch | None:
    """This process's; None where waiting cannot be changed, or the user has set how to wait."""
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
    """Seconds that this process's threads have waited for a core, since they began; 0 if the system does not count."""
    total = 0
    with suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            with suppress(OSError, IndexError, ValueError):  # a thread that has just ended
                total += int((task / "schedstat").read_text(encoding="ascii").split()[1])
    return total / 1e9
