"""Ctrl-C while a text is written."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stopping(is_terminal: bool) -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks to stop, between two tokens; a second one stops at once. Elsewhere it ends the program, as ever."""
    asked = False

    def ask(_signum: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if not is_terminal:
        yield lambda: False
        return
    old = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, old)
