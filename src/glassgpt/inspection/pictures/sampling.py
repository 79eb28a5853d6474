"""What settings make of one distribution."""

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

from glassgpt.inspection.pictures.style import cut, fonts
from glassgpt.inspection.sampling import Effect
from glassgpt.training.drawing import COLOURS, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
            range(len(likeliest)), [plain(cut(vocabulary[i], 12)) for i in likeliest], family=fonts(), fontsize=8
        )
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(effects) :]:
        axes.set_visible(False)
    panels[0].invert_yaxis()
    figure.suptitle("What settings do to what comes next (dots: as it is)", fontsize=11)
    figure.supxlabel("probability", fontsize=9)
    return figure
