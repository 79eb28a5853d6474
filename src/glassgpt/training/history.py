"""The history of a run up to the step it resumes from: read and checked before any file is changed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from glassgpt.errors import UserError
from glassgpt.reading import read_bytes, read_json_lines
from glassgpt.runs import RunFolder
from glassgpt.runs.folder import Row, whole_rows
from glassgpt.runs.schemas import FlowRow, MetricsRow
from glassgpt.training.events import Progress

MOST_DIGITS = 18  # digits of a step number in samples.txt
SAMPLE_HEAD = re.compile(rf"^----- step ([0-9]{{1,{MOST_DIGITS}}}) -----$", re.MULTILINE)


@dataclass(frozen=True)
class History:
    """The history of a run up to some step.

    Attributes:
        metrics, gradients: rows of metrics.jsonl and gradients.jsonl.
        samples: text of samples.txt.
    """

    metrics: list[MetricsRow] = field(default_factory=list)
    gradients: list[FlowRow] = field(default_factory=list)
    samples: str = ""


def read_history(folder: RunFolder, progress: Progress, log_every: int, watch_every: int | None) -> History:
    """Read a run's history up to the step it resumes from. Later rows, damaged or not, will be written again.

    Args:
        folder: folder of the run.
        progress: progress to resume from; at step 0 for a new run.
        log_every, watch_every: steps between rows of metrics and gradients, which tell whether the last row exists.

    Raises:
        UserError: a required row is damaged, or the metrics belong to another run.
    """
    metrics = rows_up_to(
        folder.metrics, read_json_lines(folder.metrics, "metrics", MetricsRow), progress.step, log_every
    )
    _check_counters(folder, metrics, progress)
    flows = read_json_lines(folder.gradients, "what was watched", FlowRow)
    gradients = rows_up_to(folder.gradients, flows, progress.step, watch_every or 1)
    return History(metrics, gradients, _samples_up_to(folder.samples, progress.step))


def rows_up_to(path: Path, rows: Sequence[Row | None], last_step: int, every: int) -> list[Row]:
    """The rows of a file up to a step. Later rows may be damaged.

    Args:
        path: path of the file.
        rows: all rows, None for each damaged one.
        last_step: last step to include.
        every: steps between rows.

    Raises:
        UserError: a required row is damaged.
    """
    steps = [row["step"] if row else None for row in rows]
    kept = [step for step in steps if step is not None and step <= last_step]
    if (kept[-1] if kept else 0) + every > last_step:
        lines = len(steps) - steps[::-1].index(kept[-1]) if kept else 0
    else:  # a damaged row may be required, unless it comes after a later step's row
        lines = next((n for n, step in enumerate(steps) if step is not None and step > last_step), len(steps))
    return whole_rows(path, rows[:lines])


def _check_counters(folder: RunFolder, rows: Sequence[MetricsRow], progress: Progress) -> None:
    """Check the last row against the checkpoint.

    Raises:
        UserError: they contradict each other.
    """
    if not rows:
        return
    last, number = rows[-1], len(rows)
    for name, total in (("tokens", progress.tokens), ("skipped", progress.skipped)):
        found = last.get(name)
        if isinstance(found, int) and (found > total or (last["step"] == progress.step and found != total)):
            raise UserError(
                f"{folder.metrics}: line {number}: {name} {found:,} at step {last['step']:,}, but {total:,} in the "
                f"checkpoint of step {progress.step:,}: not the metrics of this run: restore the old file, or "
                "remove it"
            )


def _samples_up_to(path: Path, last_step: int) -> str:
    """The text of samples.txt up to a step."""
    if not path.exists():
        return ""
    text = read_bytes(path, "a run's samples").decode("utf-8", errors="replace")
    return next((text[: head.start()] for head in SAMPLE_HEAD.finditer(text) if int(head[1]) > last_step), text)
