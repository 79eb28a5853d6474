"""Pictures of what was found, as matplotlib figures: readable in print, by the colour-blind, at 4 tokens and at 200."""

import unicodedata
from collections.abc import Sequence
from math import ceil, log2
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from glassgpt.inspection.embeddings import Projection
from glassgpt.inspection.lens import Lens
from glassgpt.inspection.sampling import Effect
from glassgpt.training.drawing import COLOURS, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

MAP = "cividis"  # made for this: lightness runs one way, and it looks the same to nearly everyone (Nuñez et al., 2018)
PAPER = "YlGnBu"  # the same on white paper: what is little is pale
MONO = "DejaVu Sans Mono"  # comes with matplotlib; each sign is 0.602 of its size wide
SIDE = 96  # points along the side of a small map
NAMED = 48  # up to so many tokens, axes name each


def attention_grid(weights: Tensor) -> "Figure":
    """All heads side by side, a row a layer, of weights (L, H, T, T).

    Where a map has more tokens than points, each point is the largest weight in its square. Colour grows with the
    square root of the weight, so that small weights show, and is the same for all heads.
    """
    L, H, T, _ = weights.shape
    small = F.adaptive_max_pool2d(weights, min(T, SIDE)) if T > SIDE else weights
    side = small.shape[-1]
    gap = max(1, side // 12)
    mosaic = torch.full((L * (side + gap) - gap, H * (side + gap) - gap), torch.nan)
    ahead = torch.ones(side, side, dtype=torch.bool).triu(1)
    for layer in range(L):
        for head in range(H):
            corner = layer * (side + gap), head * (side + gap)
            map_ = small[layer, head].sqrt().masked_fill(ahead, torch.nan)
            mosaic[corner[0] : corner[0] + side, corner[1] : corner[1] + side] = map_
    scale = min(1.6, 11 / max(L, H))  # inches a map
    figure = new_figure(max(4.5, scale * H + 1.6), scale * L + 1.1)
    axes = figure.add_subplot()
    shown = axes.imshow(mosaic.numpy(), cmap=MAP, vmin=0, vmax=1, interpolation="none")
    middle = (side - 1) / 2
    axes.set_xticks([middle + head * (side + gap) for head in range(H)], [str(head) for head in range(H)])
    axes.set_yticks([middle + layer * (side + gap) for layer in range(L)], [str(layer) for layer in range(L)])
    axes.set(
        xlabel="head", ylabel="layer", title=f"Attention over {_count(T, 'token')}: who looks (down) at whom (right)"
    )
    _bare(axes)
    _weight_scale(figure, axes, shown)
    return figure


def attention_map(weights: Tensor, labels: Sequence[str], title: str) -> "Figure":
    """One head's weights, (T, T): each row is a token that looks, each column one that it looks at."""
    T = len(labels)
    side = min(9.0, max(3.2, 0.19 * T + 1.5)) if T <= NAMED else 8.0
    figure = new_figure(side + 1.4, side + 0.5)
    axes = figure.add_subplot()
    ahead = torch.ones(T, T, dtype=torch.bool).triu(1)
    image = weights.sqrt().masked_fill(ahead, torch.nan).numpy()
    shown = axes.imshow(image, cmap=MAP, vmin=0, vmax=1, interpolation="none")
    axes.set(title=plain(title), ylabel="looks", xlabel="is looked at")
    _name_tokens(axes.xaxis, labels, upright=True)
    _name_tokens(axes.yaxis, labels)
    _bare(axes)
    if T <= 12:
        for query in range(T):
            for key in range(query + 1):
                share = float(weights[query, key])
                ink = "black" if share**0.5 > 0.55 else "white"
                axes.text(key, query, f"{share:.2f}", ha="center", va="center", color=ink, fontsize=7)
    _weight_scale(figure, axes, shown)
    return figure


def lens_heatmap(lens: Lens, labels: Sequence[str], vocabulary: Sequence[str]) -> "Figure":
    """What each layer would predict: the likeliest token (as far as there is room), coloured by its probability.

    Layers run upwards, as the residual stream is often drawn; a long text goes on in the next panel below.
    """
    R, T = lens.next_rank.shape
    named = T <= 2 * NAMED
    words = [[_cut(vocabulary[int(i)], 7) for i in row] for row in lens.top_ids[..., 0]] if named else []
    longest = max((_width(word) for row in words for word in row), default=1)
    panels = ceil(T / (min(32, 110 // (longest + 1)) if named else 100))
    width = ceil(T / panels)  # positions in each
    inches = 0.12 + 0.075 * longest if named else 0.115
    figure = new_figure(max(5.0, inches * width + 2.0), panels * (0.21 * R + 0.5) + 0.7)
    rows = figure.subplots(panels, 1, squeeze=False)[:, 0]
    likeliest = lens.top_probabilities[..., 0].numpy()
    for axes, begin in zip(rows, range(0, T, width), strict=True):
        part = np.full((R, width), np.nan)
        end = min(T, begin + width)
        part[:, : end - begin] = likeliest[:, begin:end]
        shown = axes.imshow(part, cmap=PAPER, vmin=0, vmax=1, aspect="auto", origin="lower", interpolation="none")
        axes.set_yticks(range(R), lens.layers, fontsize=7)
        _bare(axes)
        if named:
            axes.set_xticks(
                range(end - begin), [plain(_cut(label, 7)) for label in labels[begin:end]], fontsize=7, family=MONO
            )
            for row in range(R):
                for column in range(end - begin):
                    is_right = int(lens.next_rank[row, begin + column]) == 1
                    ink = "white" if part[row, column] > 0.6 else "black"
                    weight = "bold" if is_right else "normal"
                    style: dict[str, Any] = {"color": ink, "weight": weight, "fontsize": 6.5, "family": MONO}
                    axes.text(column, row, plain(words[row][begin + column]), ha="center", va="center", **style)
        else:
            ticks = range(0, end - begin, 10)
            axes.set_xticks(ticks, [str(begin + tick) for tick in ticks], fontsize=7)
    what = "the likeliest next token after each layer\n(bold: it really comes next)" if named else "the best guess"
    figure.suptitle(f"Logit lens: {what}", fontsize=11)
    bar = figure.colorbar(shown, ax=list(rows), shrink=min(1.0, 2 / panels), aspect=15, label="its probability")
    bar.outline.set_visible(False)
    return figure


def surprise_text(labels: Sequence[str], surprise: Sequence[float], vocabulary: int, columns: int = 84) -> "Figure":
    """The text itself, each token coloured by how much it surprised: one figure less than labels, in bits."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    lines = _lines(labels, columns)
    columns = max(24, *(place + _width(label) for line in lines for place, label, _ in line))
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
            left, span = edge + place * wide, _width(label) * wide
            colour = paint(shade(value)) if value is not None else (1.0, 1.0, 1.0, 1.0)
            frame: dict[str, Any] = {
                "facecolor": colour,
                "edgecolor": "white" if value is not None else "0.6",
                "linewidth": 0.8,
            }
            axes.add_patch(Rectangle((left, top), span, 0.86 * high, **frame))
            ink = "white" if 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] < 0.5 else "black"
            style: dict[str, Any] = {"family": MONO, "fontsize": size, "color": ink, "va": "center", "ha": "center"}
            axes.text(left + span / 2, top + 0.43 * high, plain(label, columns), **style)
    bar_axes = figure.add_axes((edge / width, 0.3 / height, min(0.4, 3 / width), 0.11 / height))
    bar = figure.colorbar(scale, cax=bar_axes, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2)
    note = f"surprise in bits (a blind guess: {log2(vocabulary):.1f})" if vocabulary > 1 else "surprise in bits"
    axes.text(edge + min(0.4 * width, 3) + 0.15, height - 0.25, note, fontsize=8, va="center")
    return figure


def embedding_plot(projection: Projection, vocabulary: Sequence[str], ids: Sequence[int] = ()) -> "Figure":
    """The token embeddings in the two directions in which they differ most; named where there is room.

    Args:
        projection: of all tokens.
        vocabulary: their labels.
        ids: tokens to name where there are too many to name all: a text's.
    """
    x, y = projection.coordinates[:, 0].numpy(), projection.coordinates[:, 1].numpy()
    figure = new_figure(8, 6.5)
    axes = figure.add_subplot()
    few = len(vocabulary) <= 300
    named = list(range(len(vocabulary))) if few else list(dict.fromkeys(ids))[:60]
    axes.scatter(x, y, s=4, color="0.75", alpha=0 if few else min(1.0, 2000 / len(vocabulary)), rasterized=True)
    if not few:
        axes.scatter(x[named], y[named], s=10, color=COLOURS[1])
    for i in named:
        at: dict[str, Any] = {"xytext": (0, 0) if few else (3, 2), "textcoords": "offset points"}
        place: dict[str, Any] = {"ha": "center", "va": "center"} if few else {}
        ink = COLOURS[1] if i in ids else "black"
        axes.annotate(plain(vocabulary[i]), (x[i], y[i]), **at, **place, color=ink, fontsize=8, family=MONO)
    first, second = (float(share) for share in projection.explained[:2])
    axes.set(
        xlabel=f"first principal component ({first:.1%} of the variance)",
        ylabel=f"second ({second:.1%})",
        title=f"Embeddings of {_count(len(vocabulary), 'token')}; in orange those of the text",
    )
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def position_plot(similarity: Tensor) -> "Figure":
    """How alike positions are, (T, T) from -1 to 1."""
    from matplotlib.ticker import MaxNLocator

    T = len(similarity)
    figure = new_figure(5.6, 4.6)
    axes = figure.add_subplot()
    shown = axes.imshow(similarity.numpy(), cmap=MAP, vmin=min(0.0, float(similarity.min())), vmax=1)
    axes.set(xlabel="position", ylabel="position", title=f"Similarity of {_count(T, 'position')}")
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(9, integer=True))
    _bare(axes)
    bar = figure.colorbar(shown, ax=axes, label="cosine", shrink=0.85)
    bar.outline.set_visible(False)
    return figure


def sampling_plot(effects: Sequence[Effect], vocabulary: Sequence[str], count: int = 12) -> "Figure":
    """What settings make of one distribution: the probabilities of its likeliest tokens, a panel a setting."""
    likeliest = effects[0].probabilities.topk(min(count, len(vocabulary))).indices.tolist()
    before = effects[0].probabilities[likeliest].numpy()
    columns = min(3, len(effects))
    rows = ceil(len(effects) / columns)
    figure = new_figure(3.1 * columns + 0.8, rows * (0.2 * len(likeliest) + 0.9) + 0.4)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, effect in zip(panels, effects, strict=False):
        axes.barh(range(len(likeliest)), effect.probabilities[likeliest].numpy(), color=COLOURS[0], height=0.75)
        axes.plot(before, range(len(likeliest)), "o", color=COLOURS[1], markersize=3.5)
        kept = f"{effect.kept:,} of {len(vocabulary):,} tokens, {effect.entropy:.2f} bits"
        axes.set_title(f"{plain(effect.name)}\n{kept}", fontsize=9)
        axes.set_yticks(
            range(len(likeliest)), [plain(_cut(vocabulary[i], 12)) for i in likeliest], family=MONO, fontsize=8
        )
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(effects) :]:
        axes.set_visible(False)
    panels[0].invert_yaxis()
    figure.suptitle("What settings do to what comes next (dots: as it is)", fontsize=11)
    figure.supxlabel("probability", fontsize=9)
    return figure


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _bare(axes: "Axes") -> None:
    """No frame and no tick marks around an image."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _weight_scale(figure: "Figure", axes: "Axes", shown: object) -> None:
    """A scale of weights, whose square roots are drawn."""
    ticks = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)
    bar = figure.colorbar(shown, ax=axes, label="weight", shrink=0.85, aspect=25)  # type: ignore[arg-type]
    bar.set_ticks([tick**0.5 for tick in ticks], labels=[f"{tick:g}" for tick in ticks])
    bar.outline.set_visible(False)


def _name_tokens(axis: "Axis", labels: Sequence[str], *, upright: bool = False) -> None:
    """Name every token on an axis if there is room, else count them."""
    from matplotlib.ticker import MaxNLocator

    if len(labels) > NAMED:
        axis.set_major_locator(MaxNLocator(10, integer=True))
        return
    style: dict[str, Any] = {"family": MONO, "fontsize": 8, "rotation": 90 if upright else 0}
    axis.set_ticks(range(len(labels)), labels=[plain(_cut(label, 12)) for label in labels], **style)


def _cut(label: str, width: int) -> str:
    """A label that is not too long."""
    return label if len(label) <= width else label[: width - 1] + "…"


def _width(label: str) -> int:
    """How many signs of a fixed-width font it takes: Chinese ones are twice as wide."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in label)


def _lines(labels: Sequence[str], columns: int) -> list[list[tuple[int, str, int]]]:
    """Tokens broken into lines, each with its place in the line and its number; a newline ends its line."""
    lines: list[list[tuple[int, str, int]]] = [[]]
    place = 0
    for token, whole in enumerate(labels):
        label = _cut(whole, columns)
        if lines[-1] and place + _width(label) > columns:
            lines.append([])
            place = 0
        lines[-1].append((place, label, token))
        place += _width(label)
        if label.endswith("⏎") and token + 1 < len(labels):
            lines.append([])
            place = 0
    return lines
