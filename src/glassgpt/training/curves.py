"""The picture of a run: losses, learning rate, gradient norm."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glassgpt.data.tokens import Measure
from glassgpt.files import replacing

BLUE, ORANGE, GREY, GREEN = "#0072B2", "#D55E00", "#777777", "#009E73"  # Okabe and Ito: told apart by everyone


def draw_curves(
    rows: Sequence[dict[str, Any]], path: Path, *, title: str, measure: Measure, bigram_loss: float | None = None
) -> None:
    """Draw the rows of a metrics file as a PNG.

    Args:
        rows: as `read_metrics` gives them.
        path: the picture.
        title: above it.
        measure: of the validation text, for a second scale in bits per byte.
        bigram_loss: the baseline, drawn as a level line.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, width_ratios=(2, 1))
    losses, rates, norms = (figure.add_subplot(place) for place in (grid[:, 0], grid[0, 1], grid[1, 1]))
    steps = [row["step"] for row in rows]

    train = [row["train_loss"] for row in rows]
    losses.plot(steps, train, color=BLUE, alpha=0.25, linewidth=1)
    losses.plot(steps, smooth(train), color=BLUE, linewidth=1.8, label="training (smoothed)")
    evaluated = [(row["step"], row["val_loss"]) for row in rows if row["val_loss"] is not None]
    if evaluated:
        label = f"validation (best {min(loss for _, loss in evaluated):.3f})"
        losses.plot(*zip(*evaluated, strict=True), color=ORANGE, marker="o", markersize=4, label=label)
    if bigram_loss is not None:
        losses.axhline(
            bigram_loss, color=GREY, linestyle="--", linewidth=1.2, label=f"bigram baseline {bigram_loss:.3f}"
        )
    losses.set(title=title, xlabel="step", ylabel="loss (nats per token)")
    losses.legend(frameon=False)
    zero, slope = measure.bits_per_byte(0.0), measure.bits_per_byte(1.0) - measure.bits_per_byte(0.0)
    to_bits, to_loss = (lambda loss: zero + slope * loss), (lambda bits: (bits - zero) / slope)
    second = losses.secondary_yaxis("right", functions=(to_bits, to_loss))
    second.set_ylabel("bits per byte of text")
    second.spines["right"].set_visible(False)

    rates.plot(steps, [row["lr"] for row in rows], color=GREEN)
    rates.set(title="learning rate", ylim=(0, None))
    norms.plot(steps, [row["grad_norm"] or float("nan") for row in rows], color=BLUE, linewidth=0.8)
    norms.set(title="gradient norm before clipping", xlabel="step")
    if rows:
        norms.set_yscale("log")
    for axes in (losses, rates, norms):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def smooth(values: Sequence[float]) -> list[float]:
    """Running mean with exponential forgetting over about a twentieth of the values, corrected for its beginning."""
    memory = 1 - 1 / max(2.0, len(values) / 20)
    smoothed, mean, weight = [], 0.0, 0.0
    for value in values:
        mean, weight = memory * mean + (1 - memory) * value, memory * weight + 1 - memory
        smoothed.append(mean / weight)
    return smoothed
