"""Text from wherever it is: a named corpus, files, folders, standard input."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from glassgpt.data.corpora import CORPORA, NAMES, PYTHON_REFERENCE, corpus_file, python_reference
from glassgpt.errors import UserError, suggest
from glassgpt.tokenizers.utf8 import encode_utf8

STDIN = "-"
TEXT_SUFFIXES = (".txt", ".md", ".rst", ".text")


def read_text(sources: Sequence[str]) -> str:
    """The text of all sources, joined by a newline where one does not end in one.

    Raises:
        UserError: a source is missing, empty, binary, or not UTF-8.
    """
    pieces = [_read_source(source) for source in sources]
    return "".join(
        piece if piece.endswith("\n") or last else piece + "\n"
        for piece, last in zip(pieces, [*[False] * (len(pieces) - 1), True], strict=True)
    )


def text_sha256(text: str) -> str:
    """The hash that says whether a text is the same one."""
    return hashlib.sha256(encode_utf8(text)).hexdigest()


def absolute_sources(sources: Sequence[str]) -> list[str]:
    """Sources that mean the same from any working directory."""
    return [s if s in NAMES or s == STDIN else str(Path(s).expanduser().resolve()) for s in sources]


def split_text(text: str, val_fraction: float) -> tuple[str, str]:
    """Training text and validation text: the last `val_fraction` is kept for validation; the two do not overlap."""
    cut = int(len(text) * (1 - val_fraction))
    return text[:cut], text[cut:]


def _read_source(source: str) -> str:
    if source == STDIN:
        if sys.stdin.isatty():
            raise UserError("--data=-: standard input is a terminal: pipe a text into it")
        return _decode(sys.stdin.buffer.read(), "standard input")
    if source == PYTHON_REFERENCE:
        return python_reference()
    if source in CORPORA:
        return _read_file(corpus_file(source))
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in TEXT_SUFFIXES and file.is_file())
        if not files:
            raise UserError(f"{path}: no text files in this folder ({', '.join(TEXT_SUFFIXES)})")
        return read_text([str(file) for file in files])
    if not path.exists():
        hint = f", and no corpus of this name ({suggest(source, NAMES)})" if path.name == source else ""
        raise UserError(f"{source}: no such file or folder{hint}")
    return _read_file(path)


def _read_file(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return _decode(data, str(path))


def _decode(data: bytes, name: str) -> str:
    """UTF-8 with or without a byte order mark; newlines as they are on Unix."""
    if not data.strip():
        raise UserError(f"{name}: empty: there is nothing to learn from")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{name}: UTF-16, not UTF-8: convert it (iconv -f UTF-16 -t UTF-8)")
    if b"\x00" in data:
        raise UserError(f"{name}: a binary file, not text (a zero byte at position {data.index(0)})")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name}: not UTF-8 (byte 0x{data[error.start]:02x} at position {error.start}): "
            "convert it (iconv -f LATIN1 -t UTF-8, if that is what it is)"
        ) from None
    return text.replace("\r\n", "\n")
