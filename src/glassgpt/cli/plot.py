"""glassgpt plot"""

import sys
from pathlib import Path
from typing import Annotated, Literal

from glassgpt.cli.options import Repeated, Switch
from glassgpt.errors import UserError


def plot(
    *runs: Path,
    out: Path | None = None,
    x: Literal["step", "tokens", "bytes", "seconds"] = "step",
    y: Literal["loss", "train-loss", "val-loss", "bits", "lr", "grad-norm", "tokens-per-second"] | None = None,
    log_x: Annotated[bool, Switch] = False,
    log_y: Annotated[bool, Switch] = False,
    smooth: float | None = None,
    labels: Annotated[list[str] | None, Repeated] = None,
) -> None:
    """Draw the curves of a run again, or those of several runs over each other.

    Runs may be finished, killed, or still going. To judge them, whatever their tokenizers, there is `glassgpt compare`:
    a table, and bits per byte against time and text.

    Parameters
    ----------
    runs
        Run folders.
    out
        The picture, a .png or .svg. Left out: curves.png in the folder of one run, plot.png for several.
    x
        What goes from left to right.
    y
        What to draw. Left out: for one run all of its picture, for several the losses.
    log_x
        Powers of ten from left to right; what is 0 is left out.
    log_y
        Powers of ten upwards (in the picture of one run: of the losses).
    smooth
        Of what jumps from batch to batch. From 1 on: over how many lines of the metrics file, with no lag. Below 1: in
        TensorBoard's terms, where 0.9 is a memory of 10 lines; 0: none. Left out: a twentieth of them all.
    labels
        What a run is to be called, once for each run in their order. Left out: the folders' names.
    """
    from glassgpt.runs import RunFolder
    from glassgpt.training.comparison import short_names
    from glassgpt.training.curves import read_rows, redraw_curves
    from glassgpt.training.drawing import View, check_picture
    from glassgpt.training.overlay import draw_overlay

    if not runs:
        raise UserError("plot: name run folders, such as runs/default")
    if labels is not None and len(labels) != len(runs):
        raise UserError(f"--labels: {len(labels)} for {len(runs)} runs: give it once for each, in their order")
    if smooth is not None and not 0 <= smooth < float("inf"):
        raise UserError(f"--smooth {smooth:g}: from 0 to below 1, or a window of 1 or more lines")
    folders = [RunFolder(run) for run in runs]
    recipes = [folder.read_recipe() for folder in folders]
    view = View(x, log_x, log_y, smooth)
    if len(runs) == 1 and y is None and labels is None:
        out = out or folders[0].curves
        check_picture(out)
        redraw_curves(folders[0], out, view)
    else:
        out, y = out or Path("plot.png"), y or "loss"
        check_picture(out)
        names = labels or short_names(runs)
        missing = draw_overlay(list(zip(names, map(read_rows, folders), strict=True)), out, y, view)
        for name in missing:
            print(f"{name}: no {y} to draw", file=sys.stderr)
        if "loss" in y and len({recipe.tokenizer.fingerprint for recipe in recipes}) > 1:
            print("different tokenizers: a loss per token does not compare, --y bits does", file=sys.stderr)
    print(f"curves: {out}")
