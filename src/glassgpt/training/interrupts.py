"""How a run is interrupted: once, and it saves everything; twice, and it ends at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from glassgpt.training.trainer import Trainer

# Ctrl-C, a request to terminate, the terminal or its connection closed; on Windows, Ctrl-Break or the window closed.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]


@contextmanager
def stopping_on_interrupt(trainer: Trainer, tell: Callable[[str], None]) -> Iterator[None]:
    """Any of `SIGNALS` ends the loop after the current step; a second one ends it at once."""
    asked = False

    def ask_to_stop(signum: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        if trainer.stop_reason is not None:
            return  # it is ending anyway
        trainer.stop(f"interrupted by {signal.Signals(signum).name}", interrupted=True)
        with suppress(RuntimeError):  # the signal came in the middle of another line
            tell("stopping after this step (once more to stop at once, back to the last checkpoint)")

    try:
        # What is ignored already stays so, as under nohup.
        heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        old = {number: signal.signal(number, ask_to_stop) for number in heard}
    except ValueError:  # not in the main thread: whoever runs this handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
