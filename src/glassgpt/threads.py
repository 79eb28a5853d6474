"""The number of CPU threads: set by the user, or else chosen by a short trial under the current load.

Threads that share a computation wait for each other after each operation, thousands of times a second. If another
program takes one of their cores, all of them wait until it gives that core back, several milliseconds each time: two
threads on two busy cores can be twenty times slower than one. `glassgpt.waiting` controls how they wait.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # torch reads the number of threads from these
SECONDS = 0.03 if os.name != "nt" else 0.16  # duration of a trial; Windows counts CPU time in steps of 16 ms
SLACK = 0.4  # cores: two threads beside a busy process miss 0.6 to 1; on an idle machine, less than 0.2
_SHARED = 2**15  # elements per thread: torch splits an operation of this size among all threads

Source = Literal["environment", "option", "recipe", "torch", "trial"]


@dataclass(frozen=True)
class Threads:
    """The number of CPU threads in force.

    Attributes:
        number: number of threads.
        chosen_by: `environment`: one of `VARIABLES`; `option` or `recipe`: a setting of the user or of the run;
            `trial`: `settle`; `torch`: torch's default.
        most: number of threads on an idle machine.
        wanted: number that the recipe asks for, if it exceeds the number of cores.
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
    """Choose the number of threads for the rest of this process, and make torch use it. Takes 30 ms on an idle machine.

    Nothing changes if an environment variable sets the number, or if the device is not a CPU. A number set with
    `torch.set_num_threads` is the upper limit of the trial. Later calls run no trial.
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
    """Make torch use this number of threads.

    A number from a recipe, which may come from another machine, is limited to one thread per core.
    """
    global _settled  # noqa: PLW0603
    import torch

    now = in_force()
    possible = min(number, max(cores(), now.most)) if chosen_by == "recipe" else number
    torch.set_num_threads(possible)
    if now.number != possible or now.chosen_by == "torch":  # otherwise, the choice in force stays, with its source
        _settled = Threads(possible, chosen_by, max(now.most, possible), number if number > possible else None)


def in_force() -> Threads:
    """The number of threads that torch uses now, and who chose it."""
    import torch

    number = torch.get_num_threads()
    if _settled is not None and _settled.number == number:
        return _settled
    return Threads(number, "environment" if _variable() else "torch", number)


def are_several() -> bool:
    """Whether threads may wait for each other: compiled code uses as many threads as an idle machine would."""
    import torch

    return torch.get_num_threads() > 1 or (_settled is not None and _settled.most > 1)


def cores() -> int:
    """The number of cores that this process may use: its CPU affinity, or a container's CPU quota if that is less."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(usable, _quota(Path("/sys/fs/cgroup")))))


def _quota(folder: Path) -> float:
    """The CPU quota of a container, in cores; inf if it has none."""
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
    """The name of the environment variable that sets the number of threads, if any."""
    return next((name for name in VARIABLES if os.environ.get(name)), None)


def _trial(most: int, cores_got: Callable[[int], float]) -> int:
    """The largest number of threads, up to `most`, each of which gets a core.

    Args:
        most: number to start from.
        cores_got: function that runs a team of this number of threads briefly and returns its CPU time per second.
    """
    number = most
    while number > 1:
        got = cores_got(number)
        if got < number - SLACK:  # perhaps a short disturbance: measure again
            got = max(got, cores_got(number))
        if got >= number - SLACK:
            break
        number = max(1, min(number - 1, math.floor(got + SLACK)))
    return number


def _cores_got(number: int) -> float:
    """CPU time per second of a team of threads that always computes or spins."""
    import torch

    torch.set_num_threads(number)
    numbers = torch.zeros(number * _SHARED)
    numbers.add_(1.0)  # starts the threads
    began, began_cpu = time.perf_counter(), time.process_time()
    while (seconds := time.perf_counter() - began) < SECONDS:
        numbers.add_(1.0)
    return (time.process_time() - began_cpu) / seconds
