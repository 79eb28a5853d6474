"""What a person sees while a model trains: a live bar in a terminal, plain lines elsewhere."""

import math
import os
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from glassgpt.data.tokens import Measure
from glassgpt.errors import printable
from glassgpt.threads import in_force
from glassgpt.training.events import Evaluation, Event, Step
from glassgpt.training.load import LoadNotice, load_average
from glassgpt.training.sparkline import BLOCKS, Sparkline
from glassgpt.training.trainer import Trainer
from glassgpt.waiting import watch

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_READINGS = 0.2  # reading a loss from a GPU waits for it: not at every step
MEMORY = 0.8  # of the shown loss and speed: single batches jump
BAR_WIDTH, CURVE_WIDTHS = 6, (5, 8, 24)  # columns: the bar's least; the curve's least, usual least and most


class Terminal:
    """Shows a run's events, in a terminal with a small curve of the loss where it fits.

    Use it as a context manager around the loop.
    """

    def __init__(self, trainer: Trainer, console: Console, measure: Measure, run: Path | None = None):
        self._load = LoadNotice(in_force(), run) if run and trainer.device.type == "cpu" else None
        self._trainer, self._console, self._measure = trainer, console, measure
        self._last: Step | None = None
        self._loss = math.nan
        self._rate: float | None = None
        self._val = ""
        self._curve = Sparkline() if can_show_blocks(console) else None
        self._drawn = ""
        self._read_at = (trainer.progress.tokens, trainer.progress.seconds)
        self._next_reading = 0.0
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        self._bar = Progress(
            TextColumn("step [bold]{task.completed:,.0f}[/]/{task.total:,.0f}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None),  # takes the room that the others leave
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True, min_width=5)),
            TextColumn("left", table_column=Column(no_wrap=True)),
            console=console,
            expand=True,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=trainer.total_steps, completed=trainer.progress.step)

    def __enter__(self) -> "Terminal":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, Step):
            self._last = event
            now = time.monotonic()
            if now >= self._next_reading:
                self._next_reading = now + SECONDS_BETWEEN_READINGS
                self._read(event)
                self._tell_load(now)
                if self._curve is not None:
                    width = self._room(event)
                    self._drawn = f"[cyan]{self._curve.draw(width)}[/] " if width else ""
            self._bar.update(self._task, completed=event.step, description=self._figures(event, self._drawn))
            if now >= self._next_line and not self._console.is_terminal:
                self._print_line(event, "")
        elif isinstance(event, Evaluation) and self._last is not None:
            self._read(self._last)
            self._val = f" val [green]{event.score.loss:.2f}[/]"
            bits = self._measure.bits_per_byte(event.score.loss)
            best = " best" if event.is_best else "     "
            self._print_line(self._last, f"  val {event.score.loss:.4f} ({bits:.3f} bits/byte){best}")

    def note(self, message: str) -> None:
        """Show a line of text."""
        self._console.print(printable(message), highlight=False, markup=False, soft_wrap=True)

    def _tell_load(self, now: float) -> None:
        if self._load is not None:
            contention = None if (watching := watch()) is None else watching.contention
            if line := self._load.look(now, time.process_time(), contention, load_average()):
                self.note(line)

    def _read(self, event: Step) -> None:
        loss = event.loss.item()
        if math.isfinite(loss):
            self._loss = loss if math.isnan(self._loss) else MEMORY * self._loss + (1 - MEMORY) * loss
            if self._curve is not None:
                self._curve.add(self._loss)
        tokens, seconds = event.tokens - self._read_at[0], event.seconds - self._read_at[1]
        if tokens and seconds > 0:
            # The very first steps warm up, so they are forgotten at the second reading.
            rate = tokens / seconds
            self._rate = (
                rate if self._rate is None or self._read_at[0] == 0 else MEMORY * self._rate + (1 - MEMORY) * rate
            )
            self._read_at = (event.tokens, event.seconds)

    def _figures(self, event: Step, curve: str) -> str:
        skipped = f" [red]{event.skipped} skipped[/]" if event.skipped else ""
        rate = f"lr {event.learning_rate:.0e}"
        return f"loss {curve}[cyan]{self._loss:.2f}[/]{self._val}{skipped} {rate} {self._short_speed}"

    def _room(self, event: Step) -> int:
        """Columns for the curve: what the figures and a short bar leave, and half of it where there is plenty."""
        least, usual, most = CURVE_WIDTHS
        steps, left = f"step {event.step:,}/{self._trainer.total_steps:,}", "00:00 left"
        taken = len(steps) + 1 + BAR_WIDTH + 1 + Text.from_markup(self._figures(event, "")).cell_len + 1 + len(left)
        room = self._console.width - taken - 1  # a space behind the curve
        return 0 if room < least else min(most, max(min(usual, room), room // 2))

    @property
    def _speed(self) -> str:
        return "" if self._rate is None else f"{self._rate:,.0f} tokens/s"

    @property
    def _short_speed(self) -> str:
        return "" if self._rate is None else f"{self._rate / 1000:.1f}k tok/s"

    def _print_line(self, event: Step, val: str) -> None:
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        width = len(f"{self._trainer.total_steps:,}")
        line = f"step {event.step:>{width},}/{self._trainer.total_steps:,}  train {self._loss:.4f}{val}"
        line += f"  lr {event.learning_rate:.2e}  {self._speed}"
        line += f"  {event.skipped} skipped" if event.skipped else ""
        if self._rate and not self._console.is_terminal:
            left = (self._trainer.total_steps - event.step) * event.tokens / event.step / self._rate
            line += f"  {left // 60:.0f}:{left % 60:02.0f} left"
        self.note(line)


def can_show_blocks(console: Console) -> bool:
    """Whether this is a terminal that has block characters, as far as that can be told."""
    if not console.is_terminal or console.legacy_windows or os.environ.get("TERM") in ("linux", "dumb"):
        return False  # (the fonts of a bare Linux console and of old Windows ones have only some of them)
    try:
        BLOCKS.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
