"""Several runs in one picture, one figure of their metrics against another."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from glassgpt.errors import UserError
from glassgpt.training.drawing import (
    MARKS,
    X_LABELS,
    Row,
    View,
    finish,
    legend_below,
    line_style,
    new_figure,
    plain,
    points,
    quietly,
    save_figure,
    smooth,
    ticks_of_powers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

YName = Literal["loss", "train-loss", "val-loss", "bits", "lr", "grad-norm", "tokens-per-second"]
Y_AXES: dict[str, tuple[tuple[str, ...], str]] = {  # what is drawn, and what the axis says
    "loss": (("train_loss", "val_loss"), "loss (nats per token)"),
    "train-loss": (("train_loss",), "training loss (nats per token)"),
    "val-loss": (("val_loss",), "validation loss (nats per token)"),
    "bits": (("val_bits_per_byte",), "bits per byte of validation text"),
    "lr": (("lr",), "learning rate"),
    "grad-norm": (("grad_norm",), "gradient norm before clipping"),
    "tokens-per-second": (("tokens_per_second",), "tokens per second"),
}
EVALUATED = ("val_loss", "val_bits_per_byte")  # at few steps: each gets a mark
JUMPING = ("train_loss", "grad_norm", "tokens_per_second")  # from batch to batch: smoothed
FEW = 3  # runs whose unsmoothed values do not hide each other


@quietly
def draw_overlay(runs: Sequence[tuple[str, Sequence[Row]]], path: Path, y: YName, view: View) -> list[str]:
    """Draw one figure of several runs over each other.

    Args:
        runs: their names, and the rows of their metrics files.
        path: the picture, a .png or .svg.
        y: what to draw.
        view: the axes.

    Returns:
        The names of the runs that have nothing of it to show.

    Raises:
        UserError: none of them has.
    """
    keys, label = Y_AXES[y]
    figure = new_figure(10, 5.5)
    axes = figure.subplots()
    drawn: list[Line2D] = []
    names, missing = [], []
    for number, (name, rows) in enumerate(runs):
        lines = [_draw(axes, rows, key, number, view, pale=len(runs) <= FEW, thin=len(keys) > 1) for key in keys]
        found = [line for line in lines if line is not None]
        if found:
            drawn.append(found[-1])
            best = points(rows, keys[-1], view)[1] if keys[-1] in EVALUATED else []
            names.append(plain(name) + (f": best {min(best):.3f}" if best else ""))
        else:
            missing.append(name)
    if not drawn:
        above = " above 0, which a logarithmic axis takes" if view.log_x or view.log_y else ""
        raise UserError(f"{', '.join(missing)}: no {y} to draw{above}")
    axes.set(xlabel=X_LABELS[view.x], ylabel=label)
    if len(keys) > 1:
        axes.set_title("thin: training, smoothed;  with marks: validation", loc="left", fontsize=9, color="#555555")
    if view.log_y:
        axes.set_yscale("log")
        ticks_of_powers(axes.yaxis, axes.get_ylim())
    finish(axes, view)
    legend_below(figure, drawn, names)
    save_figure(figure, path)
    return missing


def _draw(
    axes: "Axes", rows: Sequence[Row], key: str, number: int, view: View, *, pale: bool, thin: bool
) -> "Line2D | None":
    """Draw a line and return it, if there is something of it.

    Args:
        axes: where.
        rows: of the run.
        key: what of them.
        number: of the run: decides the line's look.
        view: the axes.
        pale: whether to show what was smoothed, too.
        thin: whether it steps back behind another line of the same run.
    """
    where, values = points(rows, key, view)
    if not values:
        return None
    style = line_style(number)
    if key in EVALUATED:
        style |= {"marker": MARKS[number % len(MARKS)], "markersize": 4.5, "linewidth": 1.8}
    elif key in JUMPING:
        if pale and view.smoothing != 0:
            axes.plot(where, values, color=style["color"], alpha=0.2, linewidth=0.8)
        values = smooth(values, view.smoothing)
        style |= {"linewidth": 1.0} if thin else {"linewidth": 1.6}
    return axes.plot(where, values, **style)[0]
