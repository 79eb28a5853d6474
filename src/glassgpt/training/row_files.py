"""The files to which training adds line by line: metrics.jsonl and gradients.jsonl."""

import json
import math
import os
import stat
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from glassgpt.data.tokens import Measure
from glassgpt.errors import UserError
from glassgpt.files import replacing, sync, write_text
from glassgpt.runs import RunFolder
from glassgpt.runs.schemas import FlowRow, MetricsRow
from glassgpt.training.trainer import Checkpoint, Evaluation, Event, Step


class RowFile:
    """A file of JSON rows that grows at its end.

    Args:
        folder: of the run.
        path: the file, in that folder. It is written anew.
        rows: what it holds to begin with.
    """

    def __init__(self, folder: RunFolder, path: Path, rows: Sequence[Mapping[str, Any]]):
        self._folder, self._path = folder, path
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        self._open()

    def _open(self) -> None:
        self._file = self._path.open("a+b")
        self._size = os.fstat(self._file.fileno()).st_size

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row."""
        self._check()
        line = (json.dumps(row, allow_nan=False) + "\n").encode("ascii")
        self._file.write(line)
        self._file.flush()
        self._size += len(line)

    def sync(self) -> None:
        """Wait until all rows are on the disk."""
        self._check()
        sync(self._file.fileno(), self._path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _check(self) -> None:
        """Make sure that the file under this name is the one that is written to, and has nothing else in it.

        One that was removed or replaced is written again from what is still open.

        Raises:
            UserError: something else was written to it, or the run folder is gone.
        """
        own = os.fstat(self._file.fileno())
        if own.st_size != self._size:
            raise UserError(
                f"{self._path}: changed by another program while training: the run is stopped, and goes on from its "
                "last checkpoint with --resume"
            )
        try:
            found = self._path.stat()
        except FileNotFoundError:
            found = None
        if found is not None and os.path.samestat(found, own):
            return
        self._folder.check_there()
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise UserError(f"{self._path}: a folder has taken the file's place: move it elsewhere, then --resume")
        with self._file as file, replacing(self._path) as temporary:
            file.seek(0)
            temporary.write_bytes(file.read())
        self._open()
        warnings.warn(f"{self._path}: removed or replaced while training: written again", stacklevel=2)


class MetricsFile:
    """Writes metrics.jsonl: a line every `every` steps and at each evaluation, and none twice.

    A step's line is held until the next event says whether it was evaluated, and written before its checkpoint is.

    Args:
        folder: of the run.
        measure: of the validation text.
        bytes_per_token: of the training text.
        every: steps between lines.
        rows: the lines up to the step that the run goes on from.
        also: called with each line's content, once it is written.
    """

    def __init__(
        self,
        folder: RunFolder,
        measure: Measure,
        bytes_per_token: float,
        every: int,
        rows: Sequence[MetricsRow] = (),
        also: Callable[[MetricsRow], None] | None = None,
    ):
        self._file = RowFile(folder, folder.metrics, rows)
        self._measure, self._bytes_per_token, self._every, self._also = measure, bytes_per_token, every, also
        self._row: MetricsRow | None = None
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
            self._file.sync()  # the checkpoint will outlive a power cut: its lines must, too

    def close(self) -> None:
        """Write what is held and close the file."""
        try:
            self._flush()
        finally:
            self._file.close()

    def _line(self, event: Step) -> MetricsRow:
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
            self._file.add(self._row)
            if self._also is not None:
                self._also(self._row)
            self._row = None


def _finite(value: float) -> float | None:
    """JSON has no infinities; a step that had one was skipped."""
    return value if math.isfinite(value) else None


class GradientsFile:
    """Writes gradients.jsonl: a line for each step whose gradients were watched, before its checkpoint is saved.

    Args:
        folder: of the run.
        is_watched: whether steps are watched; if none are and none were, no file is made.
        rows: the lines up to the step that the run goes on from.
    """

    def __init__(self, folder: RunFolder, is_watched: bool, rows: Sequence[FlowRow] = ()):
        path = folder.gradients
        # What was watched before may go too far as well.
        self._file = RowFile(folder, path, rows) if is_watched or path.exists() else None

    def __call__(self, event: Event) -> None:
        """Note a step that was watched."""
        if self._file is None:
            return
        if isinstance(event, Step) and event.flow is not None:
            self._file.add({"step": event.step, **event.flow.as_json()})
        elif isinstance(event, Checkpoint):
            self._file.sync()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
