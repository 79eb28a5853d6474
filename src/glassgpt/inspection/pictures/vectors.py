"""Embeddings of tokens and positions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from glassgpt.inspection.embeddings import Projection
from glassgpt.inspection.pictures.style import MAP, bare, count, cut, fonts, width_of
from glassgpt.training.drawing import COLOURS, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALL_NAMED = 300  # tokens of a vocabulary that are named as far as there is room; of a larger one, the text's


def embedding_plot(projection: Projection, vocabulary: Sequence[str], ids: Sequence[int] = ()) -> "Figure":
    """The token embeddings in the two directions in which they differ most; named where there is room.

    Args:
        projection: of all tokens.
        vocabulary: their labels.
        ids: the text's, which are named first.
    """
    x, y = projection.coordinates[:, 0].numpy(), projection.coordinates[:, 1].numpy()
    figure = new_figure(8, 6.5)
    axes = figure.add_subplot()
    own = list(dict.fromkeys(ids))
    axes.scatter(x, y, s=4, color="0.75", alpha=min(1.0, 2000 / len(vocabulary)), rasterized=True)
    axes.scatter(x[own], y[own], s=10, color=COLOURS[1])
    _name_components(axes, projection)
    axes.set(title=f"Embeddings of {count(len(vocabulary), 'token')}; in orange those of the text")
    others = [i for i in range(len(vocabulary)) if i not in ids] if len(vocabulary) <= ALL_NAMED else []
    _name_points(figure, projection.coordinates[:, :2].numpy(), vocabulary, own, others)
    return figure


def _name_points(
    figure: "Figure", places: np.ndarray, vocabulary: Sequence[str], own: Sequence[int], others: Sequence[int]
) -> None:
    """Names beside points (N, 2), the text's own in orange and first; one for which there is no room is left out."""
    from matplotlib.patheffects import withStroke

    size = 8.0
    axes = figure.axes[0]
    figure.draw_without_rendering()  # from here on it is known where points lie on paper
    points = axes.transData.transform(places) * 72 / figure.dpi
    taken = [(x - 1, y - 1, x + 1, y + 1) for x, y in points[own]]
    for i in (*own, *others):
        name = plain(cut(vocabulary[i], 16))
        width = 0.602 * size * width_of(name)
        for side, align in ((3, "left"), (-3 - width, "right")):
            left, bottom = points[i] + (side, -0.5 * size)
            box = left, bottom, left + width, bottom + size
            if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
                continue
            taken.append(box)
            style: dict[str, Any] = {"color": COLOURS[1] if i in own else "black", "fontsize": size, "family": fonts()}
            offset = 3 if align == "left" else -3
            beside: dict[str, Any] = {"xytext": (offset, 0), "textcoords": "offset points", "ha": align, "va": "center"}
            text = axes.annotate(name, places[i], **beside, **style)
            text.set_path_effects([withStroke(linewidth=2, foreground="white")])  # readable over points
            break


def position_plane(projection: Projection) -> "Figure":
    """The vectors of all positions in the two directions in which they differ most, from one to the next."""
    from matplotlib.ticker import MaxNLocator

    x, y = projection.coordinates[:, 0].numpy(), projection.coordinates[:, 1].numpy()
    figure = new_figure(6.4, 5)
    axes = figure.add_subplot()
    axes.plot(x, y, color="0.8", linewidth=0.8, zorder=1)
    shown = axes.scatter(x, y, c=np.arange(len(x)), cmap=MAP, s=14, zorder=2)
    for position in dict.fromkeys((0, len(x) - 1)):
        axes.annotate(str(position), (x[position], y[position]), xytext=(5, 3), textcoords="offset points", fontsize=8)
    _name_components(axes, projection)
    axes.set(title=f"Vectors of {count(len(x), 'position')}")
    bar = figure.colorbar(shown, ax=axes, label="position", shrink=0.85)
    bar.ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    bar.outline.set_visible(False)
    return figure


def position_plot(similarity: Tensor) -> "Figure":
    """How alike positions are, (T, T) from -1 to 1."""
    from matplotlib.ticker import MaxNLocator

    T = len(similarity)
    figure = new_figure(5.6, 4.6)
    axes = figure.add_subplot()
    shown = axes.imshow(similarity.numpy(), cmap=MAP, vmin=min(0.0, float(similarity.min())), vmax=1)
    axes.set(xlabel="position", ylabel="position", title=f"Similarity of {count(T, 'position')}")
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(9, integer=True))
    bare(axes)
    bar = figure.colorbar(shown, ax=axes, label="cosine", shrink=0.85)
    bar.outline.set_visible(False)
    return figure


def _name_components(axes: "Axes", projection: Projection) -> None:
    """The axes of a projection, with the share of the variance that they explain."""
    first, second = (float(share) for share in projection.explained[:2])
    axes.set(xlabel=f"first principal component ({first:.1%} of the variance)", ylabel=f"second ({second:.1%})")
    axes.spines[["top", "right"]].set_visible(False)
