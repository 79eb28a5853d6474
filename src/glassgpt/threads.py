"""The number of CPU threads: what the user has set, or else what a short trial finds under the load of the moment.

Threads that share a computation wait for each other after each operation, thousands of times a second. If another
program has one of their cores, all of them wait until it gets that core back, some milliseconds each time: two threads
on two busy cores can be twenty times slower than one. How they wait is the business of `glassgpt.waiting`.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # torch takes the number of threads from these
SECONDS = 0.03 if os.name != "nt" else 0.16  # of a trial; Windows counts CPU time in steps of 16 ms
SLACK = 0.4  # cores: of two threads beside a busy process, 0.6 to 1 is missing; on an idle machine, less than 0.2
_SHARED = 2**15  # elements for each thread: torch shares an operation of this size among all threads

Source = Literal["environment", "option", "recipe", "torch", "trial"]


@dataclass(frozen=True)
class Threads:
    """The number of CPU threads in force.

    Attributes:
        number: of threads.
        chosen_by: environment: a variable of `VARIABLES`; option or recipe: a setting of the user's or the run's;
            trial: `settle`; torch: nobody chose, torch's default.
        most: number on an idle machine.
        wanted: by the recipe, if that is more than there are cores.
    """

    number: int
    chosen_by: Source
    most: int
    wanted: int | None = None

    def __str__(self) -> str:
        count = f"{self.number} thread{'s' * (self.number != 1)}"
        if self.chosen_by == "trial":
            return count if self.number == self.most else f"{count} (this machine is busy: {self.most} when it is idle)"
        if self.chosen_by == "recipe":
            return f"{count} (training.threads{f' {self.wanted}: no more cores here' if self.wanted else ''})"
        return count + {"environment": f" ({_variable()})", "option": " (--threads)", "torch": ""}[self.chosen_by]


_settled: Threads | None = None


def settle(device: str = "cpu") -> Threads:
    """Choose the number of threads for the rest of this process, and let torch use it. Takes 30 ms on an idle machine.

    Nothing changes if the user has set a number by a variable of the environment, or by `torch.set_num_threads` to
    another one than torch's default, or if the device is no CPU. Called again, it returns the first answer.
    """
    global _settled  # noqa: PLW0603 - torch's number of threads is global, too
    import torch

    from glassgpt.device import choose_device

    if _settled is None and choose_device(device).type == "cpu" and _variable() is None:
        most = torch.get_num_threads()
        number = _trial(min(most, cores()), _cores_got)
        torch.set_num_threads(number)
        _settled = Threads(number, "trial", most)
    return in_force()


def use(number: int, chosen_by: Source = "recipe") -> None:
    """Let torch use this number of threads; of a recipe, which may come from another machine, one a core at most."""
    global _settled  # noqa: PLW0603
    import torch

    now = in_force()
    possible = min(number, max(cores(), now.most)) if chosen_by == "recipe" else number
    torch.set_num_threads(possible)
    if now.number != possible or now.chosen_by == "torch":  # else it is what was chosen a moment ago
        _settled = Threads(possible, chosen_by, max(now.most, possible), number if number > possible else None)


def in_force() -> Threads:
    """The number of threads that torch uses now, and who chose it."""
    import torch

    number = torch.get_num_threads()
    if _settled is not None and _settled.number == number:
        return _settled
    return Threads(number, "environment" if _variable() else "torch", number)


def are_several() -> bool:
    """Whether there may be threads that wait for each other: what is compiled has as many as an idle machine."""
    import torch

    return torch.get_num_threads() > 1 or (_settled is not None and _settled.most > 1)


def cores() -> int:
    """The number of cores that this process may use: its CPU affinity, or a container's CPU quota if that is less."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(usable, _quota(Path("/sys/fs/cgroup")))))


def _quota(folder: Path) -> float:
    """The CPU quota of a container in cores; infinite if there is none."""
    try:
        if (file := folder / "cpu.max").is_file():
            quota, period = file.read_text(encoding="ascii").split()
        else:
            quota, period = (
                (folder / "cpu" / name).read_text(encoding="ascii")
                for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            )
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # no such file; "max"
        return math.inf


def _variable() -> str | None:
    """The variable of the environment that sets the number of threads."""
    return next((name for name in VARIABLES if os.environ.get(name)), None)


def _trial(most: int, cores_got: Callable[[int], float]) -> int:
    """The largest number of threads, up to `most`, each of which gets a core.

    Args:
        most: to begin with.
        cores_got: runs a team of this number of threads for a moment, and returns its CPU time a second.
    """
    number = most
    while number > 1:
        got = cores_got(number)
        if got < number - SLACK:  # a hiccup, perhaps: look again
            got = max(got, cores_got(number))
        if got >= number - SLACK:
            break
        number = max(1, min(number - 1, math.floor(got + SLACK)))
    return number


def _cores_got(number: int) -> float:
    """CPU time a second of a team of threads that has work or waits for it actively, all the time."""
    import torch

    torch.set_num_threads(number)
    numbers = torch.zeros(number * _SHARED)
    numbers.add_(1.0)  # starts the threads
    began, began_cpu = time.perf_counter(), time.process_time()
    while (seconds := time.perf_counter() - began) < SECONDS:
        numbers.add_(1.0)
    return (time.process_time() - began_cpu) / seconds
