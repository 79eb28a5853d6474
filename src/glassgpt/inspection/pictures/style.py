"""What the pictures share: scales, fonts, and how labels are fitted in."""

import unicodedata
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAP = "cividis"  # made for this: lightness runs one way, and it looks the same to nearly everyone (Nuñez et al., 2018)
PAPER = "YlGnBu"  # the same on white paper: what is little is pale
MONO = "DejaVu Sans Mono"  # comes with matplotlib; each sign is 0.602 of its size wide
OTHER_SCRIPTS = (  # what systems bring for those that it lacks
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "PingFang HK", "Hiragino Sans", "Arial Unicode MS"),
    *("Noto Sans Devanagari", "Nirmala UI", "Noto Emoji", "Segoe UI Emoji"),
)


@cache
def fonts() -> list[str]:
    """The font of labels, then those for other scripts that this machine has; what none has is drawn as a box."""
    from matplotlib.font_manager import get_font_names

    known = set(get_font_names())
    return [MONO, *(name for name in OTHER_SCRIPTS if name in known)]


def count(number: int, what: str) -> str:
    """So many of them, in words: `1 token`, `50,257 tokens`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def bare(axes: "Axes") -> None:
    """No frame and no tick marks around an image."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def cut(label: str, width: int) -> str:
    """A label that is not too long."""
    return label if len(label) <= width else label[: width - 1] + "…"


def width_of(label: str) -> int:
    """How many signs of a fixed-width font it takes: Chinese ones are twice as wide."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in label)
