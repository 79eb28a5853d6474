"""Attention maps, all heads side by side and one by itself."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from glassgpt.inspection.pictures.style import MAP, bare, count, cut, fonts
from glassgpt.training.drawing import new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

SIDE = 96  # points along the side of a small map
NAMED = 72  # up to so many tokens, axes name each


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
        xlabel="head", ylabel="layer", title=f"Attention over {count(T, 'token')}: who looks (down) at whom (right)"
    )
    bare(axes)
    _weight_scale(figure, axes, shown)
    return figure


def attention_map(weights: Tensor, labels: Sequence[str], title: str) -> "Figure":
    """One head's weights, (T, T): each row is a token that looks, each column one that it looks at."""
    T = len(labels)
    side = min(10.0, max(3.2, 0.19 * T + 1.5)) if T <= NAMED else 8.0
    figure = new_figure(side + 1.4, side + 0.5)
    axes = figure.add_subplot()
    ahead = torch.ones(T, T, dtype=torch.bool).triu(1)
    image = weights.sqrt().masked_fill(ahead, torch.nan).numpy()
    shown = axes.imshow(image, cmap=MAP, vmin=0, vmax=1, interpolation="none")
    axes.set(title=plain(title), ylabel="looks", xlabel="is looked at")
    _name_tokens(axes.xaxis, labels, upright=True)
    _name_tokens(axes.yaxis, labels)
    bare(axes)
    if T <= 12:
        for query in range(T):
            for key in range(query + 1):
                share = float(weights[query, key])
                ink = "black" if share**0.5 > 0.55 else "white"
                axes.text(key, query, f"{share:.2f}", ha="center", va="center", color=ink, fontsize=7)
    _weight_scale(figure, axes, shown)
    return figure


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
    style: dict[str, Any] = {"family": fonts(), "fontsize": min(8, 400 / len(labels)), "rotation": 90 if upright else 0}
    axis.set_ticks(range(len(labels)), labels=[plain(cut(label, 12)) for label in labels], **style)
