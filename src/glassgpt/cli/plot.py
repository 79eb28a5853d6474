"""glassgpt plot"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from glassgpt.cli.options import FilePath, Number, Repeated, RunPath, Switch
from glassgpt.cli.output import note, say
from glassgpt.cli.pictures import check_drawing
from glassgpt.errors import UserError

if TYPE_CHECKING:
    from glassgpt.runs import RunFolder


def plot(
    *runs: RunPath,
    out: FilePath | None = None,
    x: Literal["step", "tokens", "bytes", "seconds"] = "step",
    y: Literal["loss", "train-loss", "val-loss", "bits", "lr", "grad-norm", "tokens-per-second"] | None = None,
    log_x: Annotated[bool, Switch] = False,
    log_y: Annotated[bool, Switch] = False,
    smooth: Number | None = None,
    labels: Annotated[list[str] | None, Repeated] = None,
    gradients: Annotated[bool, Switch] = False,
) -> None:
    """Draw the curves of a run again, or those of several runs over each other, or how gradients flowed in one.

    Runs may be finished, killed, or still going. To judge them, whatever their tokenizers, there is `glassgpt compare`:
    a table, and bits per byte against time and text.

    Parameters
    ----------
    runs
        Run folders.
    out
        The picture, a .png or .svg. Left out: curves.png in the folder of one run, gradients.png there with
        --gradients, plot.png for several.
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
    gradients
        Instead of curves, heatmaps of layers over steps: gradients, updates, weights and activations of one run that
        was trained with --watch-gradients.
    """
    from glassgpt.runs import RunFolder
    from glassgpt.training.comparison import short_names
    from glassgpt.training.curves import read_rows, redraw_curves
    from glassgpt.training.drawing import View
    from glassgpt.training.overlay import draw_overlay

    if not runs:
        raise UserError("plot: name run folders, such as runs/default")
    if labels is not None and len(labels) != len(runs):
        raise UserError(f"--labels: {len(labels)} for {len(runs)} runs: give it once for each, in their order")
    if smooth is not None and smooth < 0:
        raise UserError(f"--smooth {smooth:g}: from 0 to below 1, or a window of 1 or more lines")
    folders = [RunFolder(run) for run in runs]
    if gradients:
        if len(runs) > 1 or (x, y, log_x, log_y, smooth, labels) != ("step", None, False, False, None, None):
            raise UserError("--gradients draws one run by its steps: leave out other runs, and all options but --out")
        _plot_gradients(folders[0], out)
        return
    recipes = [folder.read_recipe() for folder in folders]
    view = View(x, log_x, log_y, smooth)
    if len(runs) == 1 and y is None and labels is None:
        out = out or folders[0].curves
        check_drawing(out)
        redraw_curves(folders[0], out, view)
    else:
        out, y = out or Path("plot.png"), y or "loss"
        check_drawing(out)
        names = labels or short_names(runs)
        missing = draw_overlay(list(zip(names, map(read_rows, folders), strict=True)), out, y, view)
        for name in missing:
            note(f"{name}: no {y} to draw")
        if "loss" in y and len({recipe.tokenizer.fingerprint for recipe in recipes}) > 1:
            note("different tokenizers: a loss per token does not compare, --y bits does")
    say(f"curves: {out}")


def _plot_gradients(folder: "RunFolder", out: Path | None) -> None:
    from glassgpt.training.flow_drawing import draw_flow

    folder.read_recipe()  # which says so if this is no run folder
    out = out or folder.gradients.with_suffix(".png")
    check_drawing(out)
    draw_flow(folder, out)
    say(f"gradients: {out}")
