"""The picture of a run: losses, learning rate, gradient norm."""

from collections.abc import Callable, Sequence
from pathlib import Path

from glassgpt.errors import UserError
from glassgpt.model.sizing import sizes
from glassgpt.runs import RunFolder, read_metrics, read_summary
from glassgpt.runs.schemas import MetricsRow
from glassgpt.training.drawing import (
    X_LABELS,
    Row,
    View,
    finish,
    new_figure,
    points,
    quietly,
    save_figure,
    smooth,
    ticks_of_powers,
)

BLUE, ORANGE, GREY, GREEN = "#0072B2", "#D55E00", "#777777", "#009E73"  # Okabe and Ito: told apart by everyone

FIGURES = (  # of a line of the metrics file, those that can be drawn
    *("step", "tokens", "bytes", "seconds", "train_loss", "val_loss", "val_bits_per_byte"),
    *("lr", "grad_norm", "tokens_per_second"),
)


@quietly
def draw_curves(
    rows: Sequence[Row],
    path: Path,
    *,
    title: str,
    bits_per_byte: Callable[[float], float] | None = None,
    bigram_loss: float | None = None,
    view: View = View(),  # noqa: B008 - it cannot be changed
) -> None:
    """Draw the rows of a metrics file.

    Args:
        rows: as `read_metrics` gives them.
        path: the picture, a .png or .svg.
        title: above it.
        bits_per_byte: from a loss on the validation text, along a line: makes a second scale.
        bigram_loss: the baseline, drawn as a level line.
        view: the axes; of the y axes, `log_y` is about the losses'.
    """
    figure = new_figure(10, 5)
    grid = figure.add_gridspec(2, 2, width_ratios=(2, 1))
    losses, rates, norms = (figure.add_subplot(place) for place in (grid[:, 0], grid[0, 1], grid[1, 1]))

    where, train = points(rows, "train_loss", view)
    losses.plot(where, train, color=BLUE, alpha=0.25, linewidth=1)
    losses.plot(where, smooth(train, view.smoothing), color=BLUE, linewidth=1.8, label="training (smoothed)")
    where, evaluated = points(rows, "val_loss", view)
    if evaluated:
        label = f"validation (best {min(evaluated):.3f})"
        losses.plot(where, evaluated, color=ORANGE, marker="o", markersize=4, label=label)
    if bigram_loss is not None:
        label = f"bigram baseline {bigram_loss:.3f}"
        losses.axhline(bigram_loss, color=GREY, linestyle="--", linewidth=1.2, label=label)
    losses.set(title=title, xlabel=X_LABELS[view.x], ylabel="loss (nats per token)")
    if view.log_y:
        losses.set_yscale("log")
        ticks_of_powers(losses.yaxis, losses.get_ylim())
    losses.legend(frameon=False)
    if bits_per_byte is not None:
        zero, slope = bits_per_byte(0.0), bits_per_byte(1.0) - bits_per_byte(0.0)
        to_bits, to_loss = (lambda loss: zero + slope * loss), (lambda bits: (bits - zero) / slope)
        second = losses.secondary_yaxis("right", functions=(to_bits, to_loss))
        second.set_ylabel("bits per byte of text")
        second.spines["right"].set_visible(False)
        if view.log_y:
            low, high = losses.get_ylim()
            ticks_of_powers(second.yaxis, (bits_per_byte(low), bits_per_byte(high)))

    linear = View(view.x, view.log_x)
    rates.plot(*points(rows, "lr", linear), color=GREEN)
    rates.set(title="learning rate", ylim=(0, None))
    where, lengths = points(rows, "grad_norm", linear)
    norms.plot(where, lengths, color=BLUE, alpha=0.25, linewidth=0.8)
    norms.plot(where, smooth(lengths, view.smoothing), color=BLUE, linewidth=1.4)
    norms.set(title="gradient norm before clipping", xlabel=X_LABELS[view.x])
    if any(lengths):
        norms.set_yscale("log")
        ticks_of_powers(norms.yaxis, norms.get_ylim())
    for axes in (losses, rates, norms):
        finish(axes, view)
    save_figure(figure, path)


def redraw_curves(folder: RunFolder, path: Path, view: View) -> None:
    """Draw a run's picture from what is in its folder; it may have been killed, or be still going.

    Raises:
        UserError: it is no run folder, or a damaged one, or there is nothing to draw yet.
    """
    recipe, rows, summary = folder.read_recipe(), read_rows(folder), read_summary(folder)
    last = rows[-1]
    is_whole = summary is not None and summary["steps"] == last["step"]
    seconds = summary["training_seconds"] if summary and is_whole else last["seconds"]
    title = f"{sizes(recipe.model).parameters:,} parameters, {seconds:,.0f} s of training"
    if not is_whole:
        title += f", up to step {last['step']:,}"
    bigram = summary.get("bigram") if summary else None
    known = [
        (loss, bits)
        for row in rows
        if (loss := row["val_loss"]) is not None and (bits := row["val_bits_per_byte"]) is not None
    ]
    known += [(each["loss"], each["bits_per_byte"]) for each in (summary, bigram) if each]
    draw_curves(
        rows,
        path,
        title=title,
        bits_per_byte=_line_through(known),
        bigram_loss=bigram["loss"] if bigram else None,
        view=view,
    )


def read_rows(folder: RunFolder) -> list[MetricsRow]:
    """The lines of a run's metrics file, at least one.

    Raises:
        UserError: it is damaged, empty so far, or from before there were all of its figures.
    """
    rows = read_metrics(folder.metrics)
    if not rows:
        raise UserError(f"{folder.metrics}: nothing in it yet: the first line comes at step training.log_every")
    for name in FIGURES:
        if not all(name in row for row in rows):
            raise UserError(f"{folder.metrics}: without {name!r}: damaged, or made by an older glassgpt: train again")
    return rows


def _line_through(known: Sequence[tuple[float, float]]) -> Callable[[float], float] | None:
    """From loss to bits per byte, as two points far apart tell it; None if there are none."""
    (x, y), (other_x, other_y) = min(known, default=(0.0, 0.0)), max(known, default=(0.0, 0.0))
    if other_x == x:
        return None
    slope = (other_y - y) / (other_x - x)
    return lambda loss: y + slope * (loss - x)
