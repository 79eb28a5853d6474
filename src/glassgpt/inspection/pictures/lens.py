"""What each layer would predict."""

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from glassgpt.inspection.lens import Lens
from glassgpt.inspection.pictures.style import PAPER, bare, cut, fonts, width_of
from glassgpt.training.drawing import COLOURS, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED = 96  # up to so many tokens, each prediction is written out


def lens_heatmap(lens: Lens, labels: Sequence[str], vocabulary: Sequence[str]) -> "Figure":
    """What each layer would predict: the likeliest token, coloured by its probability.

    Where a text is too long for words, a dot marks where it is the one that really comes next.
    Layers run upwards, as the residual stream is often drawn; a long text goes on in the next panel below.
    """
    R, T = lens.next_rank.shape
    named = T <= NAMED
    words = [[cut(vocabulary[int(i)], 7) for i in row] for row in lens.top_ids[..., 0]] if named else []
    longest = max((width_of(word) for row in words for word in row), default=1)
    panels = ceil(T / (min(32, 110 // (longest + 1)) if named else 100))
    width = ceil(T / panels)  # positions in each
    inches = 0.12 + 0.075 * longest if named else 0.115
    figure = new_figure(max(5.0, inches * width + 2.0), panels * (0.21 * R + 0.5) + 0.8)
    rows = figure.subplots(panels, 1, squeeze=False)[:, 0]
    likeliest = lens.top_probabilities[..., 0].numpy()
    for axes, begin in zip(rows, range(0, T, width), strict=True):
        part = np.full((R, width), np.nan)
        end = min(T, begin + width)
        part[:, : end - begin] = likeliest[:, begin:end]
        shown = axes.imshow(part, cmap=PAPER, vmin=0, vmax=1, aspect="auto", origin="lower", interpolation="none")
        axes.set_yticks(range(R), lens.layers, fontsize=7)
        bare(axes)
        if named:
            axes.set_xticks(
                range(end - begin), [plain(cut(label, 7)) for label in labels[begin:end]], fontsize=7, family=fonts()
            )
            for row in range(R):
                for column in range(end - begin):
                    is_right = int(lens.next_rank[row, begin + column]) == 1
                    ink = "white" if part[row, column] > 0.6 else "black"
                    weight = "bold" if is_right else "normal"
                    style: dict[str, Any] = {"color": ink, "weight": weight, "fontsize": 6.5, "family": fonts()}
                    axes.text(column, row, plain(words[row][begin + column]), ha="center", va="center", **style)
        else:
            right = (lens.next_rank[:, begin:end] == 1).nonzero().numpy()  # (how many, 2)
            axes.plot(right[:, 1], right[:, 0], "o", color=COLOURS[1], markersize=2)
            tens = range(-(-begin // 10) * 10, end, 10)
            axes.set_xticks([ten - begin for ten in tens], [str(ten) for ten in tens], fontsize=7)
    how = "bold" if named else "dots"
    figure.suptitle(
        f"Logit lens: the likeliest next token after each layer\n({how}: it really comes next)", fontsize=11
    )
    bar = figure.colorbar(shown, ax=list(rows), shrink=min(1.0, 2 / panels), aspect=15, label="its probability")
    bar.outline.set_visible(False)
    return figure
