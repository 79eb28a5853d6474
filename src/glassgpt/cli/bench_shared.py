"""What the commands of `glassgpt bench` share."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from glassgpt.errors import UserError

if TYPE_CHECKING:
    from glassgpt.bench.pairing import Spread


MOST_ROUNDS = 10_000


def check_range(name: str, number: int, least: int, most: int) -> None:
    """Make sure that the number behind an option is one that can be measured with.

    Raises:
        UserError: it is too small or too large.
    """
    if number < least:
        raise UserError(f"--{name} {number}: at least {least}")
    if number > most:
        raise UserError(f"--{name} {number}: at most {most:,}")


def set_threads(threads: int | None, device: str = "auto") -> None:
    """Let torch use this number of CPU threads; None: chosen by a short trial, as in all other commands."""
    from glassgpt.threads import settle, use

    if threads is None:
        settle(device)
        return
    if threads < 1:
        raise UserError(f"--threads {threads}: at least 1")
    most = 4 * (os.cpu_count() or 1)  # more than help; with far more, the system gives out and the process crashes
    if threads > most:
        raise UserError(f"--threads {threads}: at most {most} on this machine (4 for each of its processors)")
    use(threads, "option")


@contextmanager
def telling(what: str) -> Iterator[Callable[[str], None]]:
    """A function that says what is under way, on a terminal's last line."""
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield lambda detail: status.update(f"{what}: {detail}")


def times(ratio: "Spread") -> str:
    """How many times as fast, over the rounds."""
    colour = "green" if ratio.median >= 1 else "red"
    return f"[{colour}]{ratio.median:.2f}x[/] ({ratio.lowest:.2f}-{ratio.highest:.2f})"
