"""What commands print: text that cannot steer a terminal, into streams that may be closed or full."""

import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from glassgpt.errors import printable


def say(line: str) -> None:
    """Print a line on standard output. Paths and names in it may hold any character."""
    print(printable(line))


def note(line: str) -> None:
    """Print a line on standard error, if anyone reads it: a note is worth less than the work it is about."""
    try:
        print(printable(line), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        silence(sys.stderr)


class Unheard:
    """A stream whose reader may go, and whose disk may fill up: then what is written goes nowhere.

    A training run is worth more than its lines.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write as far as that is possible; return the number of characters given."""
        try:
            self._stream.write(text)
        except OSError:
            silence(self._stream)
        return len(text)

    def flush(self) -> None:
        """Flush as far as that is possible."""
        try:
            self._stream.flush()
        except OSError:
            silence(self._stream)


def silence(stream: TextIO) -> None:
    """Send what is still to be written to a stream nowhere: Python would fail on it once more when it exits."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def open_closed_streams() -> None:
    """Let a standard stream that is closed (as by `>&-`) be an empty one: to Python it is None.

    Each takes the lowest number that is free, which is its own: the next file would else have it, and get whatever a
    library writes to standard output or standard error.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def use_utf8() -> None:
    """Let standard output and standard error take text of any script, also on a narrow console."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            with suppress(OSError, ValueError):
                stream.reconfigure(encoding="utf-8", errors="replace")
