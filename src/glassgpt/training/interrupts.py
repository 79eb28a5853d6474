"""How a run is interrupted: once, and it saves everything; twice, and it ends at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from glassgpt.training.trainer import Trainer


@contextmanager
def stopping_on_interrupt(trainer: Trainer, tell: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C, or a request to terminate, ends the loop after the current step; a second one at once."""
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
        old = {name: signal.signal(name, ask_to_stop) for name in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever runs this handles signals
        yield
        return
    try:
        yield
    finally:
        for name, handler in old.items():
            signal.signal(name, handler)
