"""What all pictures of runs share: the axes' choices, smoothing, colours and line styles, and how they are saved."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from glassgpt.errors import UserError, printable
from glassgpt.files import replacing
from glassgpt.imports import load

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

P = ParamSpec("P")
R = TypeVar("R")
Row = Mapping[str, Any]
XName = Literal["step", "tokens", "bytes", "seconds"]
X_LABELS: dict[str, str] = {
    "step": "step",
    "tokens": "tokens seen",
    "bytes": "text seen (bytes)",
    "seconds": "training time (s)",
}

# Okabe and Ito: told apart by everyone. Where there is no colour, dashes tell lines apart, and marks evaluations.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (6, 2)),
    (0, (1, 1.2)),
    (0, (8, 2, 1, 2)),
    (0, (2.5, 1.5)),
    (0, (12, 3)),
    (0, (8, 2, 1, 2, 1, 2)),
)
MARKS = "os^Dv<>"

ROUND = (1, 2, 2.5, 5, 10)  # what ticks count in
LINE_OF_TEXT = 0.19  # inches, in a legend
LEGEND_CHARACTERS = 118  # that fit beside each other in ten inches


@dataclass(frozen=True)
class View:
    """How curves are looked at.

    Attributes:
        x: the figure of a metrics file that runs from left to right.
        log_x: whether it is in powers of ten.
        log_y: the same of what is drawn.
        smoothing: of what jumps from batch to batch; see `smooth`.
    """

    x: XName = "step"
    log_x: bool = False
    log_y: bool = False
    smoothing: float | None = None


def points(rows: Iterable[Row], key: str, view: View) -> tuple[list[float], list[float]]:
    """Where a figure was measured, and what it was, without what a logarithmic axis cannot show.

    Raises:
        UserError: the metrics are from before there was such a figure.
    """
    try:
        found = [(row[view.x], row[key]) for row in rows if row[key] is not None]
    except (KeyError, TypeError):
        raise UserError(
            f"metrics.jsonl: made by an older glassgpt, without {key!r} or {view.x!r}: train again"
        ) from None
    shown = [(x, y) for x, y in found if (x > 0 or not view.log_x) and (y > 0 or not view.log_y)]
    return [x for x, _ in shown], [y for _, y in shown]


def smooth(values: Sequence[float], smoothing: float | None = None) -> list[float]:
    """The mean over a window around each value, which does not lag behind as a running mean does.

    At the beginning, where losses fall fast, the window is only as long behind a value as it is before it.

    Args:
        values: any number of them.
        smoothing: from 1 on, how many values the window has; below 1, that of a running mean with this memory, as in
            TensorBoard: 0.9 are 10 values. None: a twentieth of them all.
    """
    window = max(3.0, len(values) / 20) if smoothing is None else smoothing
    reach = int((1 / (1 - window) if window < 1 else window) / 2)
    sums = [0.0, *accumulate(values)]
    ends = [(max(0, i - reach), min(len(values), i + min(reach, i) + 1)) for i in range(len(values))]
    return [(sums[end] - sums[begin]) / (end - begin) for begin, end in ends]


def line_style(number: int) -> dict[str, Any]:
    """The look of the line with this number: colour and dashes both change, and of 49 lines no two look the same."""
    turn, place = divmod(number, len(COLOURS))
    return {"color": COLOURS[place], "linestyle": DASHES[(place + turn) % len(DASHES)]}


def plain(name: str, width: int = 100) -> str:
    """A name as it is to be shown: on one line, no formula in it, not too long, not hidden for its first letter."""
    name = printable(name).replace("\n", "\u240a").replace("\t", "\u2409")
    if len(name) > width:
        name = f"{name[: width // 2 - 1]}…{name[-width // 2 :]}"
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def load_matplotlib() -> None:
    """Load the library, which may be set up in a way that it refuses.

    Raises:
        UserError: it does.
    """
    load("matplotlib", "pictures")


def quietly(draw: Callable[P, R]) -> Callable[P, R]:
    """Let a function draw any figures at all, such as constant ones, or the largest of float32, without warnings."""

    @wraps(draw)
    def wrapped(*args: P.args, **named: P.kwargs) -> R:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, of what overflows
            warnings.filterwarnings("ignore", "Attempting to set identical")  # an axis of one value is widened
            warnings.filterwarnings("ignore", "Data has no positive values")
            return draw(*args, **named)

    return wrapped


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches; no window, whatever matplotlib is set to.

    Raises:
        UserError: matplotlib cannot be loaded.
    """
    load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finish(axes: "Axes", view: View) -> None:
    """Grid, frame, and the scale from left to right; to be called when all is drawn."""
    from matplotlib.ticker import MaxNLocator

    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if view.log_x:
        axes.set_xscale("log")
        ticks_of_powers(axes.xaxis, axes.get_xlim())
        return
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    if view.x == "step":
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=ROUND, integer=True))


def ticks_of_powers(axis: "Axis", ends: tuple[float, float]) -> None:
    """Enough ticks on a logarithmic axis, all of them labelled, in plain numbers.

    matplotlib's own name powers of ten only, or names what is between them smaller, in another place, and as 2 x 10^-1.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    width = max(ends) / min(ends)
    finer = (1.0, 2.0, 5.0) if width < 1000 else (1.0,)
    few = MaxNLocator(6, steps=ROUND)
    axis.set_major_locator(few if width < 10 else LogLocator(subs=finer, numticks=12))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: _short(value))


def _short(value: float) -> str:
    """A number on an axis: 0.05, 7500, 20k, 1.5M."""
    from matplotlib.ticker import EngFormatter

    return f"{value:g}" if abs(value) < 10_000 else EngFormatter(sep="")(value)


def legend_below(figure: "Figure", lines: Sequence["Line2D"], names: Sequence[str]) -> None:
    """Name the lines under the picture, which grows by as much."""
    columns = max(1, min(4, len(names), LEGEND_CHARACTERS // (max(map(len, names)) + 8)))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + LINE_OF_TEXT * -(-len(names) // columns))
    figure.legend(lines, names, loc="outside lower left", ncols=columns, frameon=False, fontsize=9, handlelength=4.5)


def check_picture(path: Path) -> None:
    """Make sure that a picture can have this name.

    Raises:
        UserError: it ends in something else, or there is no such folder.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise UserError(f"{path}: a picture's name ends in .png or .svg")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder to write {path.name} into")
    if path.is_dir():
        raise UserError(f"{path}: is a folder: name a file for the picture")


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a PNG or an SVG, by its name; the same curves give the same bytes."""
    from matplotlib import rc_context

    kind = path.suffix.lower().removeprefix(".")
    with rc_context({"svg.hashsalt": "glassgpt"}), warnings.catch_warnings(), replacing(path) as temporary:
        warnings.filterwarnings("ignore", "Glyph")  # in a name: it is drawn as a box
        figure.savefig(temporary, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else None)
