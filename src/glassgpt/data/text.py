"""A whole text as one string, for what is small."""

from collections.abc import Sequence
from pathlib import Path

from glassgpt.data.sources import find_sources, read_pieces


def read_text(names: Sequence[str], *, text_field: str = "text", stdin: Path | None = None) -> str:
    """The text of all sources; between two documents a newline, where the first does not end in one.

    Raises:
        UserError: as `find_sources` and `read_pieces`.
    """
    text = ""
    for begins, piece in read_pieces(find_sources(names, stdin), text_field):
        text += "\n" + piece if begins and text and not text.endswith("\n") else piece
    return text
