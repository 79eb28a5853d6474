"""The text itself, coloured."""

from collections.abc import Sequence
from math import log2
from typing import TYPE_CHECKING, Any

from glassgpt.inspection.pictures.style import PAPER, cut, fonts, width_of
from glassgpt.training.drawing import new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def surprise_text(labels: Sequence[str], surprise: Sequence[float], vocabulary: int, columns: int = 84) -> "Figure":
    """The text itself, each token coloured by how much it surprised: one figure less than labels, in bits."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    lines = _lines(labels, columns)
    columns = max(24, *(place + width_of(label) for line in lines for place, label, _ in line))
    size = 10.0  # points
    wide, high = 0.602 * size / 72, 1.75 * size / 72  # inches a sign, a line
    edge, foot = 0.2, 0.62
    width, height = max(5.0, columns * wide + 2 * edge), len(lines) * high + edge + foot
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    shade, paint = Normalize(0, max(1.0, log2(vocabulary))), colormaps[PAPER]
    scale = ScalarMappable(shade, PAPER)
    known = [None, *surprise]
    for number, line in enumerate(lines):
        top = edge + number * high
        for place, label, token in line:
            value = known[token]
            left, span = edge + place * wide, width_of(label) * wide
            colour = paint(shade(value)) if value is not None else (1.0, 1.0, 1.0, 1.0)
            frame: dict[str, Any] = {
                "facecolor": colour,
                "edgecolor": "white" if value is not None else "0.6",
                "linewidth": 0.8,
            }
            axes.add_patch(Rectangle((left, top), span, 0.86 * high, **frame))
            ink = "white" if 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] < 0.5 else "black"
            style: dict[str, Any] = {"family": fonts(), "fontsize": size, "color": ink, "va": "center", "ha": "center"}
            axes.text(left + span / 2, top + 0.43 * high, plain(label, columns), **style)
    bar_axes = figure.add_axes((edge / width, 0.3 / height, min(0.4, 3 / width), 0.11 / height))
    bar = figure.colorbar(scale, cax=bar_axes, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2)
    note = f"surprise in bits (a blind guess: {log2(vocabulary):.1f})" if vocabulary > 1 else "surprise in bits"
    axes.text(edge + min(0.4 * width, 3) + 0.15, height - 0.25, note, fontsize=8, va="center")
    return figure


def _lines(labels: Sequence[str], columns: int) -> list[list[tuple[int, str, int]]]:
    """Tokens broken into lines, each with its place in the line and its number; a newline ends its line."""
    lines: list[list[tuple[int, str, int]]] = [[]]
    place = 0
    for token, whole in enumerate(labels):
        label = cut(whole, columns)
        if lines[-1] and place + width_of(label) > columns:
            lines.append([])
            place = 0
        lines[-1].append((place, label, token))
        place += width_of(label)
        if label.endswith("⏎") and token + 1 < len(labels):
            lines.append([])
            place = 0
    return lines
