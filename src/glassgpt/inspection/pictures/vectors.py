"""Embeddings of tokens and positions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from glassgpt.inspection.embeddings import Projection
from glassgpt.inspection.pictures.style import MAP, MONO, bare, count
from glassgpt.training.drawing import COLOURS, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def embedding_plot(projection: Projection, vocabulary: Sequence[str], ids: Sequence[int] = ()) -> "Figure":
    """The token embeddings in the two directions in which they differ most; named where there is room.

    Args:
        projection: of all tokens.
        vocabulary: their labels.
        ids: tokens to name where there are too many to name all: a text's.
    """
    from matplotlib.patheffects import withStroke

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
        text = axes.annotate(plain(vocabulary[i]), (x[i], y[i]), **at, **place, color=ink, fontsize=8, family=MONO)
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])  # readable over points
    _name_components(axes, projection)
    axes.set(title=f"Embeddings of {count(len(vocabulary), 'token')}; in orange those of the text")
    return figure


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
