"""The documents of files, in order: text files, whole or at their separators, and files of rows."""

from collections.abc import Iterable, Iterator

from glassgpt.data.corpora import python_reference
from glassgpt.data.decoding import decoded
from glassgpt.data.row_limits import MOST_ROW
from glassgpt.data.rows import ROW_SUFFIXES, Part, row_parts
from glassgpt.data.sources import Source
from glassgpt.data.unpacking import bare_suffix, unpacked
from glassgpt.errors import UserError

Piece = tuple[bool, str]
"""A part of a text, and whether a document begins with it."""


def read_parts(sources: Iterable[Source], text_field: str = "text", separator: str | None = None) -> Iterator[Part]:
    """All documents in order, about a megabyte at a time, so that a document may be of any size.

    A text file is a document, or several with a separator between them; each line of a .jsonl file is one, and each row
    of a .parquet file.

    Args:
        sources: the files.
        text_field: which field of a row holds the text.
        separator: what stands between documents in text files, if anything does.

    Raises:
        UserError: a file cannot be read, is empty, damaged, binary, not UTF-8, or has no such field.
    """
    for source in sources:
        if source.path is None:
            yield Part(True, [python_reference()])
            continue
        if bare_suffix(source.path) in ROW_SUFFIXES:
            parts = row_parts(source.path, source.name, text_field)
        else:
            parts = _plain_parts(source, separator)
        empty = True
        for part in parts:
            empty = empty and not part.texts
            yield part
        if empty and not source.found:
            raise UserError(f"{source.name}: {_emptiness(source)}: there is nothing to learn from")


def read_pieces(sources: Iterable[Source], text_field: str = "text", separator: str | None = None) -> Iterator[Piece]:
    """The parts that `read_parts` gives, a text at a time."""
    for begins, texts in read_parts(sources, text_field, separator):
        for number, text in enumerate(texts):
            yield begins or number > 0, text


def _emptiness(source: Source) -> str:
    assert source.path is not None
    if bare_suffix(source.path) in ROW_SUFFIXES:
        return "empty, or no row holds a text"
    return "empty" if source.path.stat().st_size == 0 else "empty: it holds only white space"


def _plain_parts(source: Source, separator: str | None) -> Iterator[Part]:
    assert source.path is not None
    begins, separated = True, False  # whether a document begins next; whether a separator stands before it
    held = ""  # white space before a document, or what may be the beginning of a separator
    keep = len(separator) - 1 if separator else 0
    for text in decoded(unpacked(source.path), source.name):
        found: list[str] = []  # each but perhaps the first begins a document
        first_begins = begins
        pieces = (held + text).split(separator) if separator else [held + text]
        for number, piece in enumerate(pieces):
            if number:
                begins = separated = True
            held = piece.lstrip("\n") if begins and separated else piece
            ready = held[: max(0, len(held) - keep)] if number == len(pieces) - 1 else held
            if ready and (not begins or ready.strip()):
                first_begins = first_begins if found else begins
                found.append(ready)
                begins, held = False, held[len(ready) :]
        if found:
            yield Part(first_begins, found)
        if len(held) > MOST_ROW:
            raise UserError(
                f"{source.name}: more than {MOST_ROW // 2**20} MB of white space together: remove it from the text"
            )
    if held and (not begins or held.strip()):
        yield Part(begins, [held])
