"""Documents in rows: JSON lines here, parquet in `parquet.py`; with bounded memory whatever a file holds."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from glassgpt.data.decoding import decoded
from glassgpt.data.parquet import parquet_texts
from glassgpt.data.row_limits import MOST_ROW, NAME_IT, too_large
from glassgpt.data.unpacking import bare_suffix, unpacked
from glassgpt.errors import UserError, reason, suggest

ROW_SUFFIXES = (".jsonl", ".ndjson", ".parquet")
_PART = 2**20  # characters of a document that are passed on at once


class Part(NamedTuple):
    """A part of a text: some documents whole, or a part of a long one.

    Attributes:
        begins: a document begins with the first of the texts; one does with every other.
        texts: none of them is empty.
    """

    begins: bool
    texts: list[str]


def row_parts(path: Path, name: str, text_field: str) -> Iterator[Part]:
    """The documents of a .jsonl, .ndjson or .parquet file.

    Args:
        path: of the file.
        name: of the file, for messages.
        text_field: which field of a row holds the text.

    Raises:
        UserError: it cannot be read, has no such field, or a row is larger than `MOST_ROW`.
    """
    if path.suffix.lower() == ".parquet":
        return _limited(parquet_texts(path, name, text_field))
    if bare_suffix(path) == ".parquet":
        raise UserError(f"{name}: parquet is packed by itself: unpack the file, and name the .parquet")
    return _limited(_json_texts(path, name, text_field))


def _limited(batches: Iterator[list[str]]) -> Iterator[Part]:
    """Documents in order; long ones in parts, so that no one has to hold a copy of them."""
    for texts in batches:
        if not texts:
            continue
        if max(map(len, texts)) <= _PART:
            yield Part(True, texts)
            continue
        for text in texts:
            for start in range(0, len(text), _PART):
                yield Part(start == 0, [text[start : start + _PART]])


def _json_texts(path: Path, name: str, text_field: str) -> Iterator[list[str]]:
    number, rest, held = 0, [""], 0  # what is after the last newline, and its characters
    for text in _with_end(decoded(unpacked(path), name)):
        first, *lines = text.split("\n")
        rest.append(first)
        held += len(first)
        if held > MOST_ROW:
            raise too_large(f"{name}: line {number + 1}")
        if lines:
            lines.insert(0, "".join(rest))
            last = lines.pop()
            rest, held = [last], len(last)
            yield _texts_of(lines, number, name, text_field)
            number += len(lines)


def _with_end(texts: Iterator[str]) -> Iterator[str]:
    """A newline at the end, whether there was one or not."""
    yield from texts
    yield "\n"


def _texts_of(lines: list[str], number: int, name: str, text_field: str) -> list[str]:
    """The documents in some lines, which come after `number` others."""
    try:
        texts = [value[text_field] if type(value) is dict else value for value in _parsed_together(lines)]
        if {str, type(None)}.issuperset(map(type, texts)):
            return [text for text in texts if text]
    except (ValueError, RecursionError, KeyError):
        pass  # one of the lines is at fault, and is found by itself
    return [
        text
        for place, line in enumerate(lines, number + 1)
        if line.strip() and (text := _json_text(line, f"{name}: line {place}", text_field))
    ]


def _parsed_together(lines: list[str]) -> list[Any]:
    """The values of all lines that are not blank, parsed at once, which takes half the time.

    Raises:
        ValueError: a line is not JSON. Each line has one value exactly if one stands between any two marks.
    """
    filled = [line for line in lines if line.strip()]
    values = json.loads(f"[{_BETWEEN.join(filled)}]")
    if len(values) != max(0, 2 * len(filled) - 1) or values[1::2].count(_MARK) != len(values) // 2:
        raise ValueError("several values in a line, or one in several lines")
    return values[::2]  # type: ignore[no-any-return]


_MARK = f"glassgpt-{uuid4()}"  # no text can hold it
_BETWEEN = f',"{_MARK}",'


def _json_text(line: str, place: str, text_field: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON: {reason(error)}") from None
    if isinstance(value, dict):
        if text_field not in value:
            raise UserError(f"{place}: no field {text_field!r} ({suggest(text_field, value)}): {NAME_IT}")
        value = value[text_field]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{place}: a text is needed, not {type(value).__name__}: {NAME_IT}")
    return value
