"""A bar for work that takes a while; nothing at all for work that does not, or where no one is looking."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_UNTIL_SHOWN = 0.5


@contextmanager
def progress_bar(what: str, total: int | None, *, unit: str = "bytes") -> Iterator[Callable[[int], None]]:
    """Yield a function to call with how much more has been done.

    Args:
        what: shown before the bar.
        total: of all work; None: not known.
        unit: "bytes" are shown with MB/s, anything else as it is named.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    figures: tuple[ProgressColumn, ...] = (DownloadColumn(), TransferSpeedColumn())
    if unit != "bytes":
        figures = (MofNCompleteColumn(), TextColumn(unit))
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        *figures,
        TimeRemainingColumn(compact=True),
        console=console,
        expand=True,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task(what, total=total)
    show_at = time.monotonic() + SECONDS_UNTIL_SHOWN

    def advance(amount: int) -> None:
        bar.advance(task, amount)
        if not bar.live.is_started and time.monotonic() >= show_at:
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()
