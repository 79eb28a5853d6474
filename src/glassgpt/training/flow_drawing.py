"""The picture of how gradients flow: heatmaps of layers over steps, one for each figure in gradients.jsonl."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from glassgpt.errors import UserError
from glassgpt.reading import read_json_lines
from glassgpt.runs import RunFolder
from glassgpt.runs.folder import whole_rows
from glassgpt.runs.schemas import FlowFigures, FlowRow
from glassgpt.training.drawing import View, finish, new_figure, plain, quietly, save_figure, ticks_of_powers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize


class Panel(NamedTuple):
    """One heatmap: a figure, what it is, and its scale: powers of ten, from 0 upwards, or both ways from 0."""

    key: str
    title: str
    scale: Literal["log", "share", "signed"] = "log"


OF_PARTS = (
    Panel("grad_norm", "length of the gradient, before clipping"),
    Panel("update_ratio", "length of the update / of the weights"),
    Panel("weight_norm", "length of the weights"),
)
OF_BLOCKS = (
    (
        Panel("mean", "MLP activations: mean", "signed"),
        Panel("std", "MLP activations: std"),
        Panel("tiny", "MLP activations: share of tiny ones", "share"),
    ),
    (
        Panel("residual_mean", "residual stream: mean", "signed"),
        Panel("residual_std", "residual stream: std"),
        Panel("dead", "MLP units: share of dead ones", "share"),
    ),
)
NOTHING = "#BBBBBB"  # where there is no figure, or a 0 on a scale of powers
ROW = 0.16  # inches, of a heatmap with many of them
FEW = 8  # layers that are all numbered
DECADES = 6  # below the highest value: what is smaller has the darkest colour


def read_flow(path: Path) -> list[FlowRow]:
    """The lines of a run's gradients.jsonl, at least one.

    Raises:
        UserError: nothing was watched so far, or a line is damaged.
    """
    rows = read_json_lines(path, "what was watched", FlowRow)
    if not rows:
        raise UserError(
            f"{path}: nothing in it: gradients are watched with glassgpt train --watch-gradients 10, also of a run "
            "that goes on"
        )
    return whole_rows(path, rows)


@quietly
def draw_flow(folder: RunFolder, path: Path) -> None:
    """Draw what was watched in a run; it may have been killed, or be still going.

    Raises:
        UserError: nothing was watched, or the file is damaged.
    """
    rows = read_flow(folder.gradients)
    parts, blocks = _by_kind(rows[-1]["parts"]), list(rows[-1]["blocks"])
    stripes = [(OF_PARTS, parts, [row["parts"] for row in rows])]
    if blocks:
        stripes += [(panels, blocks, [row["blocks"] for row in rows]) for panels in OF_BLOCKS]
    heights = [_height(len(names)) for _, names, _ in stripes]
    figure = new_figure(13, sum(heights) + 0.6)
    grid = figure.subplots(len(stripes), 3, sharey="row", squeeze=False, height_ratios=heights)
    is_whole = True
    for axes, stripe in zip(grid, stripes, strict=True):
        is_whole &= _draw_stripe(axes, *stripe, [row["step"] for row in rows])
    figure.suptitle(f"{plain(folder.path.resolve().name)}: {len(rows)} steps watched", fontsize=12)
    figure.supxlabel("step" if is_whole else "step   (grey: not watched, 0, or not finite)", fontsize=10)
    save_figure(figure, path)


def _height(rows: int) -> float:
    """Inches for a heatmap of so many rows, with its title and what is below."""
    return max(1.2, ROW * rows) + 0.75


def _by_kind(parts: Iterable[str]) -> list[str]:
    """The parts of one kind together, layer by layer, each kind where its first one stands."""
    kinds: dict[str, list[str]] = {}
    for part in parts:
        kinds.setdefault(_kind_and_layer(part)[0], []).append(part)
    return [part for kind in kinds.values() for part in kind]


def _kind_and_layer(part: str) -> tuple[str, str]:
    """`blocks.3.attn.qkv` is attn.qkv of layer 3, `blocks.3` just layer 3."""
    found = re.fullmatch(r"blocks\.(\d+)\.?(.*)", part)
    return (found[2], found[1]) if found else (part, "")


def _draw_stripe(
    stripe: Sequence["Axes"],
    panels: Sequence[Panel],
    names: Sequence[str],
    flows: Sequence[FlowFigures],
    steps: Sequence[int],
) -> bool:
    """Heatmaps beside each other, with the same rows. Returns whether there is a figure everywhere."""
    edges, columns = _columns(steps)
    is_whole = True
    for axes, panel in zip(stripe, panels, strict=True):
        values = np.full((len(names), len(edges) - 1), np.nan)
        for column, flow in zip(columns, flows, strict=True):
            for row, name in enumerate(names):
                value = flow.get(name, {}).get(panel.key)
                values[row, column] = np.nan if value is None else value
        is_whole &= _draw(axes, panel, edges, values)
        axes.set_title(panel.title, fontsize=10, loc="left")
        finish(axes, View())
        axes.grid(visible=False)
        axes.tick_params(axis="y", which="both", length=0)
    _name_rows(stripe, names)
    return is_whole


def _columns(steps: Sequence[int]) -> tuple[list[float], list[int]]:
    """The edges of the columns of a heatmap, and which of them belongs to each step.

    A column ends at its step and begins at the one before; where nothing was watched for a while, which is a gap wider
    than those on both sides of it, there is an empty column.
    """
    gaps = np.diff(steps, prepend=0)
    edges: list[float] = []
    columns = []
    for number, (step, gap) in enumerate(zip(steps, gaps, strict=True)):
        beside = [*gaps[max(0, number - 1) : number], *gaps[number + 1 : number + 2]]
        begin = float(step - min(gap, max(beside, default=gap)))
        if not edges or begin > edges[-1]:
            edges.append(begin)
        columns.append(len(edges) - 1)
        edges.append(float(step))
    return edges, columns


def _draw(axes: "Axes", panel: Panel, edges: Sequence[float], values: np.ndarray) -> bool:
    """One heatmap and its scale of colours. Returns whether there is a figure everywhere."""
    from matplotlib import colormaps

    shown = np.ma.masked_invalid(np.where(values > 0, values, np.nan) if panel.scale == "log" else values)
    colours = colormaps["PuOr" if panel.scale == "signed" else "cividis"].with_extremes(bad=NOTHING)
    norm = _norm(panel, shown.compressed())
    places = np.arange(len(values) + 1) - 0.5
    # As an image in an SVG, too: a rectangle for each cell would make it large.
    mesh = axes.pcolormesh(edges, places, shown, cmap=colours, norm=norm, rasterized=True)
    axes.set_facecolor(NOTHING)
    axes.set_ylim(len(values) - 0.5, -0.5)
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.02, fraction=0.06, aspect=25)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    if panel.scale == "log":
        assert norm.vmin is not None and norm.vmax is not None
        ticks_of_powers(bar.ax.yaxis, (norm.vmin, norm.vmax))
    elif panel.scale == "share":
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    return not np.ma.is_masked(shown)


def _norm(panel: Panel, values: np.ndarray) -> "Normalize":
    """The range of the colours."""
    from matplotlib.colors import LogNorm, Normalize

    largest = float(np.abs(values).max(initial=0.0))
    if panel.scale == "signed":
        return Normalize(-(largest or 1.0), largest or 1.0)
    if panel.scale == "share":
        return Normalize(0.0, max(largest, 0.01))
    largest = largest or 1.0
    smallest = max(float(values.min(initial=largest)), largest / 10**DECADES)
    return LogNorm(smallest, largest) if smallest < largest * 0.999 else LogNorm(largest / 2, largest * 2)


def _name_rows(stripe: Sequence["Axes"], names: Sequence[str]) -> None:
    """The kinds, once for each group of rows, and the layers in it, the first and the last one where there are many."""
    kinds: dict[float, str] = {}
    layers: dict[int, str] = {}
    first = 0
    for kind, group in groupby(map(_kind_and_layer, names), itemgetter(0)):
        numbers = [layer for _, layer in group]
        last = first + len(numbers) - 1
        kinds[(first + last) / 2] = kind or "layer"
        layers |= {first + n: layer for n, layer in enumerate(numbers) if len(numbers) <= FEW or n in (0, last - first)}
        for axes in stripe if first else ():
            axes.axhline(first - 0.5, color="white", linewidth=1)
        first = last + 1
    stripe[0].yaxis.remove_overlapping_locs = False  # the layer in the middle of a kind has a number, too
    stripe[0].set_yticks(list(kinds), list(kinds.values()), fontsize=9)
    stripe[0].set_yticks(list(layers), list(layers.values()), minor=True, fontsize=7)
    stripe[0].tick_params(axis="y", which="major", pad=18)
