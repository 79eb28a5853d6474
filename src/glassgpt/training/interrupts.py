"""How a run is interrupted: once, and it saves everything; twice in the same way, and it ends at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from glassgpt.training.trainer import Trainer

# Ctrl-C, a request to terminate, the terminal or its connection closed; on Windows, Ctrl-Break or the window closed.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]


@contextmanager
def stopping_on_interrupt(trainer: Trainer, tell: Callable[[str], None]) -> Iterator[None]:
    """Any of `SIGNALS` ends the loop after the current step; the same signal again ends it at once.

    Different ones may belong to one request: a machine that shuts down closes terminals and asks their programs to end.
    """
    seen: set[str] = set()

    def ask_to_stop(signum: int, _frame: object) -> None:
        name = signal.Signals(signum).name
        if name in seen and name != "SIGHUP":  # (a connection that breaks asks for nothing)
            raise KeyboardInterrupt
        seen.add(name)
        if trainer.stop_reason is not None:
            return  # it is ending anyway
        trainer.stop(f"interrupted by {name}", interrupted=True)
        again = "Ctrl-C" if name == "SIGINT" else name
        with suppress(RuntimeError):  # the signal came in the middle of another line
            tell(f"stopping after this step ({again} again to stop at once, back to the last checkpoint)")

    try:
        # Under nohup, a closed terminal is ignored, and stays so.
        hang_up = getattr(signal, "SIGHUP", None)
        heard = [number for number in SIGNALS if number != hang_up or signal.getsignal(number) is not signal.SIG_IGN]
        old = {number: signal.signal(number, ask_to_stop) for number in heard}
    except ValueError:  # not in the main thread: whoever runs this handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
