"""A curve in one line of text."""

import itertools
import math
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
MOST = 256  # means that are kept at least, once there were so many: finer than any terminal is wide


class Sparkline:
    """A curve that is drawn as it grows, in memory that does not grow: older values are merged in pairs, evenly."""

    def __init__(self) -> None:
        self._means: list[float] = []  # of `_each` values in turn
        self._each = 1
        self._sum, self._count = 0.0, 0  # of the values since the last mean

    def add(self, value: float) -> None:
        """Add a value; what is not finite has no place on a curve."""
        if not math.isfinite(value):
            return
        self._sum, self._count = self._sum + value, self._count + 1
        if self._count == self._each:
            self._means.append(self._sum / self._count)
            self._sum, self._count = 0.0, 0
        if len(self._means) == 2 * MOST:
            self._means = [(first + second) / 2 for first, second in _pairs(self._means)]
            self._each *= 2

    def draw(self, width: int) -> str:
        """The whole curve in `width` characters, from the lowest block to the highest; blank where it has not been."""
        values = [*self._means, self._sum / self._count] if self._count else self._means
        cells = min(width, len(values))
        edges = [len(values) * cell // cells for cell in range(cells + 1)] if cells else []
        heights = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
        return blocks(heights).ljust(width)


def blocks(heights: Sequence[float]) -> str:
    """A block character for each height; a level line is drawn at the bottom."""
    low, high = min(heights, default=0.0), max(heights, default=0.0)
    size = (high - low) or 1.0
    return "".join(BLOCKS[round((height - low) / size * (len(BLOCKS) - 1))] for height in heights)


def _pairs(values: Sequence[float]) -> "zip[tuple[float, float]]":
    return zip(values[::2], values[1::2], strict=True)
