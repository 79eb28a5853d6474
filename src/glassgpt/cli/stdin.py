"""A text on standard input."""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

from glassgpt.cli.output import note
from glassgpt.errors import UserError

PATIENCE = 1.0  # seconds after which it is said what there is to wait for
MOST = 64 * 2**20  # bytes: a prompt or a text to encode, in memory


def read_prompt() -> str | None:
    """The prompt on standard input; None if there is no standard input, where nobody can have meant to give one.

    Raises:
        UserError: it is empty, too large, or not UTF-8 text.
    """
    if sys.stdin.isatty():
        return None
    if _is_null():
        note("no standard input: the recipe's prompt is used")
        return None
    text = read_text("the prompt on standard input", '--prompt "…"')
    if not text:
        raise UserError('the prompt on standard input is empty: pipe a text into it, or give --prompt "…"')
    return text


def read_text(name: str, instead: str) -> str:
    """All of standard input as text, with a note if nothing comes for a while.

    Args:
        name: what is read, for messages.
        instead: how to give it otherwise.

    Raises:
        UserError: it is too large, or not UTF-8 text.
    """
    from glassgpt.data.decoding import decode_bytes

    with _saying(f"waiting for {name} (end it with Ctrl-D), or give {instead}"):
        data = sys.stdin.buffer.read(1)
    data += sys.stdin.buffer.read(MOST)
    if len(data) > MOST:
        raise UserError(f"{name} is larger than {MOST // 2**20} MB")
    return decode_bytes(data, name)


@contextmanager
def _saying(what: str) -> Iterator[None]:
    timer = Timer(PATIENCE, note, [what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _is_null() -> bool:
    """Whether standard input was closed, or is the null device: nothing can come from there."""
    try:
        found = os.fstat(sys.stdin.fileno())
        return stat.S_ISCHR(found.st_mode) and os.path.samestat(found, os.stat(os.devnull))  # noqa: PTH116
    except (OSError, ValueError):
        return False
