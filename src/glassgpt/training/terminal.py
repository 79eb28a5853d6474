"""What a person sees while a model trains: a live bar in a terminal, plain lines elsewhere."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from glassgpt.training.trainer import Evaluation, Event, Step, Trainer

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_UPDATES = 0.2  # reading a loss from a GPU waits for it: not at every step


class Terminal:
    """Shows a run's events. Use it as a context manager around the loop."""

    def __init__(self, trainer: Trainer, console: Console):
        self._trainer, self._console = trainer, console
        self._val: float | None = None
        self._last: Step | None = None
        self._loss = 0.0
        self._rate = 0.0
        self._shown: tuple[int, float] = (trainer.progress.tokens, trainer.progress.seconds)
        self._next_update = 0.0
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        self._bar = self._task = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("step [bold]{task.completed:,.0f}[/]/{task.total:,.0f}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
                console=console,
                expand=True,
                transient=True,
            )
            self._task: TaskID = self._bar.add_task(
                "", total=trainer.total_steps, completed=trainer.progress.step, figures=""
            )

    def __enter__(self) -> "Terminal":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, Step):
            self._last = event
            now = time.monotonic()
            if now >= self._next_update or event.step == self._trainer.total_steps:
                self._next_update = now + SECONDS_BETWEEN_UPDATES
                self._read(event)
            if self._bar is not None:
                self._bar.update(self._task, completed=event.step, figures=self._figures(event))
            elif now >= self._next_line:
                self._print_line(event)
        elif isinstance(event, Evaluation) and self._last is not None:
            self._val = event.score.loss
            self._read(self._last)
            self._print_line(self._last, evaluated=event)

    def note(self, message: str) -> None:
        """Show a line of text."""
        self._console.print(message, highlight=False)

    def _read(self, event: Step) -> None:
        self._loss = event.loss.item()
        tokens, seconds = event.tokens - self._shown[0], event.seconds - self._shown[1]
        if seconds > 0:
            rate = tokens / seconds
            self._rate = rate if self._rate == 0 else 0.8 * self._rate + 0.2 * rate
            self._shown = (event.tokens, event.seconds)

    def _figures(self, event: Step) -> str:
        val = "" if self._val is None else f"  val [green]{self._val:.3f}[/]"
        return f"loss [cyan]{self._loss:.3f}[/]{val}  lr {event.learning_rate:.1e}  {self._rate:,.0f} tokens/s"

    def _print_line(self, event: Step, evaluated: Evaluation | None = None) -> None:
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        width = len(f"{self._trainer.total_steps:,}")
        line = f"step {event.step:>{width},}/{self._trainer.total_steps:,}  train {self._loss:.4f}"
        if evaluated is not None:
            line += f"  val {evaluated.score.loss:.4f}{'*' if evaluated.is_best else ' '}"
        line += f"  lr {event.learning_rate:.2e}  {self._rate:,.0f} tokens/s"
        if self._bar is None and self._rate:
            left = (self._trainer.total_steps - event.step) * event.tokens / event.step / self._rate
            line += f"  {left // 60:.0f}:{left % 60:02.0f} left"
        self.note(line)
