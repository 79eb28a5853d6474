"""What watches a run: files of metrics and gradients, the best weights, samples, checkpoints, and what stops it early.

A listener is called with each event of the loop; it does not change the loop but by `trainer.stop`.
"""

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from glassgpt.data.tokens import Measure
from glassgpt.files import sync_file, write_text
from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.text import generate_text
from glassgpt.reading import read_json_lines
from glassgpt.recipes import Recipe
from glassgpt.runs import RunFolder, read_metrics
from glassgpt.tensor_files import save_tensors
from glassgpt.tokenizers import Tokenizer
from glassgpt.training.checkpoints import save_checkpoint
from glassgpt.training.trainer import Checkpoint, Evaluation, Event, Pause, Step, Trainer

Listener = Callable[[Event], None]


class MetricsFile:
    """Writes metrics.jsonl: a line every `every` steps and at each evaluation, and none twice.

    A step's line is held until the next event says whether it was evaluated, and written before its checkpoint is.

    Args:
        folder: of the run. Lines after `last_step`, from before an interruption, are removed.
        measure: of the validation text.
        bytes_per_token: of the training text.
        every: steps between lines.
        last_step: the step that the run goes on from; 0 for a new one.
        also: called with each line's content, once it is written.
    """

    def __init__(
        self,
        folder: RunFolder,
        measure: Measure,
        bytes_per_token: float,
        every: int,
        last_step: int = 0,
        also: Callable[[dict[str, Any]], None] | None = None,
    ):
        rows = rows_up_to(folder.metrics, last_step, every)
        write_text(folder.metrics, "".join(json.dumps(row) + "\n" for row in rows))
        self._file = folder.metrics.open("a", encoding="utf-8", newline="\n")
        self._measure, self._bytes_per_token, self._every, self._also = measure, bytes_per_token, every, also
        self._row: dict[str, Any] | None = None
        self._last: Step | None = None
        self._rate_from: tuple[int, float] | None = None

    def __call__(self, event: Event) -> None:
        """Note a step or an evaluation."""
        if isinstance(event, Step):
            self._flush()
            if self._rate_from is None:  # the first step warms up: it says nothing of the speed
                self._rate_from = (event.tokens, event.seconds)
            self._last = event
            if event.step % self._every == 0:
                self._row = self._line(event)
        elif isinstance(event, Evaluation):
            assert self._last is not None
            self._row = self._row or self._line(self._last)
            self._row["val_loss"] = event.score.loss
            self._row["val_bits_per_byte"] = self._measure.bits_per_byte(event.score.loss)
        elif isinstance(event, Checkpoint):
            self._flush()
            os.fsync(self._file.fileno())  # the checkpoint will outlive a power cut: its lines must, too

    def close(self) -> None:
        """Write what is held and close the file."""
        self._flush()
        self._file.close()

    def _line(self, event: Step) -> dict[str, Any]:
        assert self._rate_from is not None
        tokens, seconds = event.tokens - self._rate_from[0], event.seconds - self._rate_from[1]
        if tokens:
            self._rate_from = (event.tokens, event.seconds)
        return {
            "step": event.step,
            "tokens": event.tokens,
            "bytes": round(event.tokens * self._bytes_per_token),
            "train_loss": _finite(event.loss.item()),
            "val_loss": None,
            "val_bits_per_byte": None,
            "lr": event.learning_rate,
            "grad_norm": _finite(event.grad_norm.item()),
            "skipped": event.skipped,
            "tokens_per_second": round(tokens / seconds, 1) if seconds > 0 and tokens else None,
            "seconds": round(event.seconds, 3),
        }

    def _flush(self) -> None:
        if self._row is not None:
            self._file.write(json.dumps(self._row, allow_nan=False) + "\n")
            self._file.flush()
            if self._also is not None:
                self._also(self._row)
            self._row = None


def _finite(value: float) -> float | None:
    """JSON has no infinities; a step that had one was skipped."""
    return value if math.isfinite(value) else None


def rows_up_to(path: Path, last_step: int, every: int) -> list[dict[str, Any]]:
    """The lines of a metrics file up to a step. What comes later may be damaged: it is to be written again.

    Args:
        path: of the file.
        last_step: of the lines that are wanted.
        every: steps between lines, which tells whether the last of them is there.

    Raises:
        UserError: a line that is wanted is damaged.
    """
    steps = [row.get("step") if row else None for row in read_json_lines(path, "metrics", dict[str, Any])]
    kept = [step for step in steps if isinstance(step, int) and step <= last_step]
    if (kept[-1] if kept else 0) + every > last_step:
        lines = len(steps) - steps[::-1].index(kept[-1]) if kept else 0
    else:  # one that is damaged may be wanted, unless a later step's comes before it
        lines = next((n for n, step in enumerate(steps) if isinstance(step, int) and step > last_step), len(steps))
    return read_metrics(path, first=lines)


class GradientsFile:
    """Writes gradients.jsonl: a line for each step whose gradients were watched, before its checkpoint is saved.

    Args:
        folder: of the run. Lines after `last_step`, from before an interruption, are removed.
        every: steps between lines; None if nothing is watched, and then no file is made.
        last_step: the step that the run goes on from; 0 for a new one.
    """

    def __init__(self, folder: RunFolder, every: int | None, last_step: int = 0):
        self._path = folder.gradients
        self._file: TextIO | None = None
        if every is not None or self._path.exists():  # what was watched before may go too far as well
            rows = rows_up_to(self._path, last_step, every or 1)
            write_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))
            self._file = self._path.open("a", encoding="utf-8", newline="\n")

    def __call__(self, event: Event) -> None:
        """Note a step that was watched."""
        if self._file is None:
            return
        if isinstance(event, Step) and event.flow is not None:
            row = {"step": event.step, **event.flow.as_json()}
            self._file.write(json.dumps(row, allow_nan=False) + "\n")
            self._file.flush()
        elif isinstance(event, Checkpoint):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def check_folder(folder: RunFolder) -> Listener:
    """Ends the run, before anything is saved, where its folder is gone or another run's by now."""

    def listen(event: Event) -> None:
        if not isinstance(event, Step):
            folder.check_there()

    return listen


def keep_best_weights(trainer: Trainer, folder: RunFolder) -> Listener:
    """Saves model.safetensors at each new best; where nothing is evaluated (yet), at each checkpoint."""

    def listen(event: Event) -> None:
        is_best = isinstance(event, Evaluation) and event.is_best
        if is_best or (isinstance(event, Checkpoint) and not trainer.progress.best_step):
            save_tensors(trainer.model.state_dict(), folder.weights)

    return listen


def save_checkpoints(trainer: Trainer, folder: RunFolder, recipe: Recipe) -> Listener:
    """Saves a checkpoint whenever the loop says so."""

    def listen(event: Event) -> None:
        if isinstance(event, Checkpoint):
            folder.check_there()
            save_checkpoint(trainer, folder.checkpoints, trainer.config.keep_checkpoints, recipe)

    return listen


class Samples:
    """Writes a text at each evaluation (or when it would be time for one) and adds it to samples.txt.

    Sampling has a random stream of its own, so it changes nothing about the training.

    Attributes:
        latest: the newest sample, prompt included.
    """

    def __init__(
        self, trainer: Trainer, folder: RunFolder, tokenizer: Tokenizer, config: SamplingConfig, block_size: int
    ):
        self._trainer, self._folder, self._tokenizer = trainer, folder, tokenizer
        self._config, self._block_size = config, block_size
        text = folder.samples.read_text(encoding="utf-8", errors="replace") if folder.samples.exists() else ""
        heads = list(_SAMPLE_HEAD.finditer(text))
        later = [head.start() for head in heads if int(head[1]) > trainer.progress.step]
        kept = text[: later[0]] if later else text
        self.latest = _SAMPLE_HEAD.split(kept)[-1].strip("\n")
        write_text(folder.samples, kept)

    def __call__(self, event: Event) -> None:
        """Write a sample if it is time."""
        trainer = self._trainer
        if not isinstance(event, Evaluation | Pause):
            return
        prompt = self._config.prompt
        assert prompt is not None
        written = generate_text(
            trainer.model, self._tokenizer, prompt, self._config, block_size=self._block_size, seed=trainer.config.seed
        )
        self.latest = prompt + written.text
        with self._folder.samples.open("a", encoding="utf-8", newline="\n", errors="replace") as file:
            file.write(f"----- step {event.step} -----\n{self.latest}\n")
        sync_file(self._folder.samples)


_SAMPLE_HEAD = re.compile(r"^----- step (\d+) -----$", re.MULTILINE)


def stop_early(trainer: Trainer) -> Listener:
    """Stops when the patience for a better validation loss, or the time, is used up.

    Patience may have been used up before: a run that was killed just then ends where it would have ended.
    """
    patience, max_seconds = trainer.config.patience, trainer.config.max_seconds
    began = trainer.progress.seconds

    def look() -> None:
        if patience is not None and trainer.progress.without_improvement >= patience:
            trainer.stop(f"no better validation loss in {patience} evaluations")

    def listen(event: Event) -> None:
        if isinstance(event, Evaluation):
            look()
        if isinstance(event, Step) and max_seconds is not None and event.seconds - began >= max_seconds:
            trainer.stop(f"training.max_seconds ({max_seconds:g}) used up")

    look()
    return listen
