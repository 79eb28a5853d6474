"""What a person is told when the load of the machine changes while a model trains on its CPU."""

import os
from pathlib import Path
from shlex import quote

from glassgpt.threads import Threads

LASTS = 5.0  # seconds of a change before it is told
PAUSE = 30.0  # seconds between two lines
LOST = 0.7  # of the CPU time a second that threads got at best: with less, they are taken as waiting
SPARE = 0.3  # runnable programs beside this one's threads, on average: with less, the machine is taken as idle


class LoadNotice:
    """One line for each change of the load that lasts, and none when it is not sure.

    Args:
        threads: in force.
        run: the run folder.
    """

    def __init__(self, threads: Threads, run: Path):
        self._threads, self._run = threads, run
        self._told_busy = threads.number < threads.most and threads.chosen_by == "trial"
        self._is_over = threads.number == 1 and not self._told_busy  # one thread waits for no other
        self._changed_at: float | None = None
        self._quiet_until = 0.0
        self._last: tuple[float, float] | None = None
        self._best = self._got = 0.0

    def look(self, now: float, cpu: float, contention: bool | None, load: float | None) -> str | None:
        """The line to tell, if there is one.

        Args:
            now: seconds of a clock.
            cpu: seconds of CPU time that this process has had.
            contention: whether its threads wait for a core; None if the system does not say.
            load: programs that run or wait for a core, on average, this one's threads included; None if unknown.
        """
        is_busy = self._is_busy(now, cpu, contention, load)
        if self._is_over or is_busy is None or is_busy == self._told_busy:
            self._changed_at = None
            return None
        if self._changed_at is None:
            self._changed_at = now
        if now - self._changed_at < LASTS or now < self._quiet_until:
            return None
        self._told_busy, self._changed_at, self._quiet_until = is_busy, None, now + PAUSE
        return self._line(is_busy=is_busy, can_change=contention is not None)

    def _is_busy(self, now: float, cpu: float, contention: bool | None, load: float | None) -> bool | None:
        """None: it cannot be told."""
        threads = self._threads
        if threads.number < threads.most:  # one that waits for no other does not notice: the system's average does
            return None if load is None else load > threads.number + SPARE
        if contention is not None:
            return contention
        if self._last is None or now - self._last[0] >= 1:
            (then, cpu_then), self._last = self._last or (now, cpu), (now, cpu)
            got = (cpu - cpu_then) / (now - then) if now > then else 0.0
            self._best = max(self._best, got)
            self._got = got
        return None if self._best < LOST * threads.number else self._got < LOST * self._best

    def _line(self, *, is_busy: bool, can_change: bool) -> str:
        threads, resume = self._threads, f"glassgpt train --resume {quote(str(self._run))} --training.threads"
        if threads.number < threads.most:
            self._is_over = True
            most = threads.most
            return f"this machine is idle again: {most} threads would be faster: stop, then {resume} {most}"
        if can_change:
            return (
                "this machine is busy: threads that wait for each other leave their cores to other programs for now "
                "(slower, with the same results)"
                if is_busy
                else "this machine is idle again: back to full speed"
            )
        if is_busy:
            return f"this machine is busy, and threads wait for each other: one may be faster: stop, then {resume} 1"
        return "this machine is idle again"


def load_average() -> float | None:
    """Programs that run or wait for a core, on average over a minute; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
