"""The time that a training takes, without the time for which the process was stopped."""

import time

LEAST = 1.0  # seconds: a shorter gap is counted, whatever it was
SHARE = 0.05  # of a gap, in which a process that runs uses its processor at least
LONGER = 10  # times as long as the last laps: a step that waits for a disk or a GPU is not much longer than the others


class Clock:
    """Measures laps. What lies within one while the process does not run is left out.

    A process is stopped by SIGSTOP or Ctrl-Z, by a container that is frozen, or by a laptop that sleeps. None of these
    can be asked about, but each shows: much more time goes by than in the laps before, and hardly any of it was spent
    computing.

    Attributes:
        seconds: of all laps so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._usual = 0.0  # the longest of the laps lately, fading
        self.begin()

    def begin(self) -> None:
        """Begin a lap now, instead of where the last one ended."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def lap(self) -> float:
        """End a lap; return its seconds."""
        wall, cpu = time.perf_counter(), time.process_time()
        gap, computed = wall - self._wall, cpu - self._cpu
        self._wall, self._cpu = wall, cpu
        if gap > max(LEAST, LONGER * self._usual) and computed < SHARE * gap:
            gap = self._usual or computed
        self._usual = max(gap, 0.9 * self._usual)
        self.seconds += gap
        return gap
