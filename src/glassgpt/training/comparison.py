"""Several runs beside each other, in bits per byte: the one figure that does not depend on the tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from glassgpt.errors import UserError, printable
from glassgpt.model.sizing import sizes
from glassgpt.recipes import Recipe
from glassgpt.runs import RunFolder, read_metrics, read_summary
from glassgpt.training.checkpoints import list_checkpoints, step_of
from glassgpt.training.drawing import (
    MARKS,
    X_LABELS,
    View,
    XName,
    finish,
    legend_below,
    line_style,
    new_figure,
    plain,
    quietly,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Compared:
    """One run in the comparison.

    Attributes:
        name: what it is called.
        recipe: what it was made from.
        bits_per_byte: of the best weights; None if nothing was evaluated yet.
        tokens_per_second: the median while training; None if too short to tell.
        seconds: of training.
        steps: that were made.
        finished: whether it reached its end.
        curve: at each evaluation: seconds of training, bytes of text seen, bits per byte.
    """

    name: str
    recipe: Recipe
    parameters: int
    bits_per_byte: float | None
    tokens_per_second: float | None
    seconds: float
    steps: int
    finished: bool
    curve: list[tuple[float, float, float]]

    def to_dict(self) -> dict[str, Any]:
        """What the table shows, as JSON data."""
        return {
            "run": self.name,
            "tokenizer": self.recipe.tokenizer.kind,
            "vocab_size": self.recipe.model.vocab_size,
            "parameters": self.parameters,
            "bits_per_byte": self.bits_per_byte,
            "tokens_per_second": self.tokens_per_second,
            "training_seconds": self.seconds,
            "steps": self.steps,
            "finished": self.finished,
        }


def read_compared(path: Path, name: str) -> Compared:
    """What a run folder says of itself; the run may still be going.

    Args:
        path: the folder.
        name: what to call it.

    Raises:
        UserError: it is no run folder, or damaged, or from before there were bits per byte in the metrics.
    """
    folder = RunFolder(path)
    recipe = folder.read_recipe()
    rows = read_metrics(folder.metrics)
    if not all("val_bits_per_byte" in row and "seconds" in row and "bytes" in row for row in rows):
        raise UserError(f"{folder.metrics}: made by an older glassgpt, without bits per byte: train again")
    curve = [
        (row["seconds"], float(row["bytes"]), bits) for row in rows if (bits := row["val_bits_per_byte"]) is not None
    ]
    speeds = [speed for row in rows if (speed := row.get("tokens_per_second")) is not None]
    seconds, steps = (rows[-1]["seconds"], rows[-1]["step"]) if rows else (0.0, 0)
    return Compared(
        name=name,
        recipe=recipe,
        parameters=sizes(recipe.model).parameters,
        bits_per_byte=min((bits for _, _, bits in curve), default=None),
        tokens_per_second=median(speeds) if speeds else None,
        seconds=seconds,
        steps=steps,
        finished=_is_finished(folder, steps),
        curve=curve,
    )


def _is_finished(folder: RunFolder, steps: int) -> bool:
    """Whether its summary is about all of it: a run that was given more steps has an older one until it ends."""
    summary = read_summary(folder)
    if summary is None:
        return False
    saved = [step_of(path) or 0 for path in list_checkpoints(folder.checkpoints)]
    return summary["steps"] >= max(steps, *saved, 0)


def differences(runs: Sequence[Compared]) -> list[str]:
    """What makes the runs' figures less than comparable, one line each; none if all were judged on the same text."""
    found: list[str] = []
    judged = {(run.recipe.data.sha256, run.recipe.data.val_fraction) for run in runs}
    if len(judged) > 1:
        found.append("the runs were not judged on the same text: their bits per byte do not compare")
    for run in runs:
        if run.recipe.training.eval_tokens is not None:
            found.append(f"{run.name}: judged on a sample of its validation text (training.eval_tokens)")
        if run.bits_per_byte is None:
            found.append(f"{run.name}: nothing was evaluated on a validation text")
        elif not run.finished:
            found.append(f"{run.name}: not finished, or interrupted, at step {run.steps:,}")
    return list(map(printable, found))


def short_names(paths: Sequence[Path]) -> list[str]:
    """What to call run folders: the last part of their paths, if that tells them apart."""
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else list(map(str, paths))


@quietly
def draw_comparison(runs: Sequence[Compared], path: Path) -> None:
    """Draw bits per byte of the validation text against training time and against bytes seen, as a PNG or SVG."""
    figure = new_figure(10, 5)
    by_time, by_bytes = figure.subplots(1, 2, sharey=True)
    lines, names = [], []
    for number, run in enumerate(runs):
        style = line_style(number) | {"marker": MARKS[number % len(MARKS)], "markersize": 4}
        bits = [bits for _, _, bits in run.curve]
        lines += by_time.plot([seconds for seconds, _, _ in run.curve], bits, **style)
        by_bytes.plot([size for _, size, _ in run.curve], bits, **style)
        kind, best = run.recipe.tokenizer.kind, "" if run.bits_per_byte is None else f": {run.bits_per_byte:.3f}"
        names.append(plain(run.name) + ("" if kind in run.name else f" ({kind})") + best)
    by_time.set(ylabel="bits per byte of validation text")
    by_x: dict[XName, Axes] = {"seconds": by_time, "bytes": by_bytes}
    for x, axes in by_x.items():
        axes.set(xlabel=X_LABELS[x], xlim=(0, None))
        finish(axes, View(x))
    legend_below(figure, lines, names)
    save_figure(figure, path)
