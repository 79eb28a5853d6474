"""Timing several sides fairly: in turn, in one process, over several rounds.

A machine's speed drifts by more than most differences that are worth knowing, so what counts are the ratios within each
round, not the speeds.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

FIRST_STEPS = 2  # what is compiled is compiled by then
WARM_UP_SECONDS = 1.0
STEPS_A_TURN = 3  # at least, unless a turn's seconds are given

Turner = TypeVar("Turner")


def _nothing() -> None: ...


@dataclass(frozen=True)
class Side:
    """One of those that are timed.

    Attributes:
        name: what it is called.
        step: does a piece of work and returns how much it was: tokens, operations, bytes.
        finish: waits for what the device has not done yet.
        most_seconds: that its turn takes; for a side that has little to say.
    """

    name: str
    step: Callable[[], float]
    finish: Callable[[], None] = _nothing
    most_seconds: float = math.inf


@dataclass(frozen=True)
class Spread:
    """What the rounds came to."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The usual one."""
        return median(self.rounds)

    @property
    def lowest(self) -> float:
        """The worst round."""
        return min(self.rounds)

    @property
    def highest(self) -> float:
        """The best round."""
        return max(self.rounds)

    def __truediv__(self, other: "Spread") -> "Spread":
        """The ratio in each round."""
        return Spread(tuple(mine / theirs for mine, theirs in zip(self.rounds, other.rounds, strict=True)))

    def to_dict(self) -> dict[str, float | list[float]]:
        """As JSON data, with every round."""
        return {"median": self.median, "lowest": self.lowest, "highest": self.highest, "rounds": list(self.rounds)}


@dataclass(frozen=True)
class Timed:
    """How fast a side was.

    Attributes:
        rate: work a second, in each round.
        first_seconds: from the beginning until its first steps were done, with all that is made or compiled then.
    """

    rate: Spread
    first_seconds: float


def take_turns(
    sides: Sequence[Side],
    *,
    rounds: int,
    seconds: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[float, dict[str, Timed]]:
    """Let each side work for some seconds in each round, in the opposite order every other round.

    All are warmed up first. The garbage collector runs between the turns, not in them.

    Args:
        sides: with different names.
        rounds: how many.
        seconds: of a turn, which ends with a whole step; left out: a second, or three steps of the slowest side.
        tell: is told what is under way.

    Returns:
        The seconds of a turn, and how fast each side was, by its name.
    """
    first, usual = {}, {}
    for side in sides:
        tell(f"warming up: {side.name}")
        first[side.name], usual[side.name] = _warm_up(side)
    if seconds is None:
        seconds = max(1.0, STEPS_A_TURN * max(usual[side.name] for side in sides))
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    for number, side in turns(sides, rounds):
        tell(f"round {number} of {rounds}: {side.name}")
        rates[side.name].append(_turn(side, min(seconds, side.most_seconds)))
    return seconds, {side.name: Timed(Spread(tuple(rates[side.name])), first[side.name]) for side in sides}


def turns(sides: Sequence[Turner], rounds: int) -> Iterator[tuple[int, Turner]]:
    """Whose turn it is, and in which round, from 1: in the opposite order every other round."""
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            yield number + 1, side


@contextmanager
def undisturbed() -> Iterator[None]:
    """The garbage collector runs before what is measured, not in it."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _warm_up(side: Side) -> tuple[float, float]:
    """Seconds until the first steps are done, and those that a step takes from then on."""
    began = time.perf_counter()
    for _ in range(FIRST_STEPS):
        side.step()
    side.finish()
    warm = now = time.perf_counter()
    steps = 0
    while not steps or now - warm < min(WARM_UP_SECONDS, side.most_seconds):
        side.step()
        side.finish()
        steps += 1
        now = time.perf_counter()
    return warm - began, (now - warm) / steps


def _turn(side: Side, seconds: float) -> float:
    """Work a second, over at least so many seconds."""
    with undisturbed():
        work = 0.0
        began = time.perf_counter()
        while not work or time.perf_counter() - began < seconds:
            work += side.step()
        side.finish()
        return work / (time.perf_counter() - began)
