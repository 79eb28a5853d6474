"""Where text comes from: named corpora, files, folders, patterns of names, standard input; plain, packed, in rows."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from glassgpt.data.corpora import CORPORA, NAMES, PYTHON_REFERENCE, corpus_file, python_reference
from glassgpt.data.decoding import decoded
from glassgpt.errors import UserError, suggest

STDIN = "-"
TEXT_SUFFIXES = (".txt", ".md", ".rst", ".text")
ROW_SUFFIXES = (".jsonl", ".ndjson", ".parquet")
PACKED_SUFFIXES = (".gz", ".zst")
CHUNK = 2**20  # bytes read at once

Piece = tuple[bool, str]
"""A part of a text, and whether a document begins with it."""


@dataclass(frozen=True)
class Source:
    """One file, or the text that every Python carries.

    Attributes:
        path: None for the Python reference.
        name: for messages.
        found: found in a folder or by a pattern, so it is left out if it is empty.
    """

    path: Path | None
    name: str
    found: bool = False

    @property
    def plain_size(self) -> int | None:
        """Its bytes; None if it is packed."""
        if self.path is None or not self.path.is_file() or self.path.suffix.lower() in (*PACKED_SUFFIXES, ".parquet"):
            return None
        return self.path.stat().st_size


def find_sources(names: Sequence[str], stdin: Path | None = None) -> list[Source]:
    """The files that names stand for, each once.

    Args:
        names: corpora, files, folders (all files of a known kind in them), patterns such as `texts/*.txt`, or -.
        stdin: the file that holds what came from standard input.

    Raises:
        UserError: there is no such thing.
    """
    found: dict[Path | None, Source] = {}
    for name in names:
        for source in _find(name, stdin):
            found.setdefault(source.path and source.path.resolve(), source)
    return list(found.values())


def absolute_sources(names: Sequence[str]) -> list[str]:
    """Sources that mean the same from any working directory."""
    return [name if name in NAMES or name == STDIN else str(Path(name).expanduser().resolve()) for name in names]


def read_pieces(sources: Iterable[Source], text_field: str = "text", separator: str | None = None) -> Iterator[Piece]:
    """All documents in order, in pieces of about a megabyte, so that a document may be of any size.

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
            yield True, python_reference()
            continue
        reader: Callable[[Path, str], Iterator[Piece]] = partial(_plain_text, separator=separator)
        if _bare_suffix(source.path) in ROW_SUFFIXES:
            rows = _parquet_rows if source.path.suffix.lower() == ".parquet" else _json_rows
            reader = partial(rows, text_field=text_field)
        empty = True
        for piece in reader(source.path, source.name):
            empty = False
            yield piece
        if empty and not source.found:
            raise UserError(f"{source.name}: empty: there is nothing to learn from")


def _plain_text(path: Path, name: str, separator: str | None) -> Iterator[Piece]:
    begins, separated = True, False  # whether a document begins next; whether a separator stands before it
    held = ""  # white space before a document, or what may be the beginning of a separator
    keep = len(separator) - 1 if separator else 0
    for text in decoded(_unpacked(path), name):
        parts = (held + text).split(separator) if separator else [held + text]
        for number, part in enumerate(parts):
            if number:
                begins = separated = True
            held = part.lstrip("\n") if begins and separated else part
            ready = held[: max(0, len(held) - keep)] if number == len(parts) - 1 else held
            if ready and (not begins or ready.strip()):
                yield begins, ready
                begins, held = False, held[len(ready) :]
    if held and (not begins or held.strip()):
        yield begins, held


def _find(name: str, stdin: Path | None) -> list[Source]:
    if name == STDIN:
        assert stdin is not None, "whoever allows - reads standard input first"
        return [Source(stdin, "standard input")]
    if name == PYTHON_REFERENCE:
        return [Source(None, name)]
    if name in CORPORA:
        path = corpus_file(name)
        return [Source(path, str(path))]
    path = Path(name).expanduser()
    if path.is_dir():
        files = [file for file in path.rglob("*") if _bare_suffix(file) in TEXT_SUFFIXES + ROW_SUFFIXES]
        files = sorted(file for file in files if file.is_file())
        if not files:
            raise UserError(
                f"{path}: no text files in this folder ({', '.join(TEXT_SUFFIXES + ROW_SUFFIXES)}, .gz or .zst)"
            )
        return [Source(file, str(file), found=True) for file in files]
    if path.is_file():
        return [Source(path, name)]
    if path.exists():
        raise UserError(f"{name}: cannot be read twice, as a file can: pipe it in, and name - as the source")
    if has_magic(name):
        files = sorted(Path(file) for file in glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        files = [file for file in files if file.is_file()]
        if not files:
            raise UserError(f"{name}: no file has a name like this")
        return [Source(file, str(file), found=True) for file in files]
    hint = f", and no corpus of this name ({suggest(name, NAMES)})" if path.name == name else ""
    raise UserError(f"{name}: no such file or folder{hint}")


def _bare_suffix(path: Path) -> str:
    """The suffix without the one that says how the file is packed."""
    bare = path.with_suffix("") if path.suffix.lower() in PACKED_SUFFIXES else path
    return bare.suffix.lower()


def _unpacked(path: Path) -> Iterator[bytes]:
    """The bytes of a file, in chunks, after gzip or zstd if its name says so."""
    try:
        with path.open("rb") as file:
            if path.suffix.lower() == ".zst":
                yield from _unpacked_zstd(path, file)
                return
            reader = gzip.GzipFile(fileobj=file) if path.suffix.lower() == ".gz" else file
            while chunk := reader.read(CHUNK):
                yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: damaged gzip file: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def _unpacked_zstd(path: Path, file: Any) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError:
        raise UserError(f'{path}: reading zstd takes a package more: pip install "glassgpt[data]"') from None
    frame = None
    try:
        while chunk := file.read(CHUNK // 16):  # a little may unpack to a lot
            while chunk:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                data = frame.decompress(chunk)
                chunk = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
                yield data
    except zstandard.ZstdError as error:
        raise UserError(f"{path}: damaged zstd file: {error}") from None
    if frame is not None:
        raise UserError(f"{path}: damaged zstd file: it ends too early")


def _json_rows(path: Path, name: str, text_field: str) -> Iterator[Piece]:
    number, rest = 0, ""
    for text in _with_end(decoded(_unpacked(path), name)):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            number += 1
            if line.strip() and (document := _json_text(line, f"{name}: line {number}", text_field)):
                yield True, document


def _with_end(texts: Iterator[str]) -> Iterator[str]:
    """A newline at the end, whether there was one or not."""
    yield from texts
    yield "\n"


def _json_text(line: str, place: str, text_field: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON: {error}") from None
    if isinstance(value, dict):
        if text_field not in value:
            raise UserError(f"{place}: no field {text_field!r} ({suggest(text_field, value)}): {_NAME_IT}")
        value = value[text_field]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{place}: a text is needed, not {type(value).__name__}: {_NAME_IT}")
    return value


_NAME_IT = "say which field holds the text (--text-field, or --data.text-field with train)"


def _parquet_rows(path: Path, name: str, text_field: str) -> Iterator[Piece]:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UserError(f'{path}: reading parquet takes a package more: pip install "glassgpt[data]"') from None
    try:
        with ParquetFile(path, buffer_size=CHUNK) as file:
            names = file.schema_arrow.names
            if text_field not in names:
                raise UserError(f"{name}: no column {text_field!r} ({suggest(text_field, names)}): {_NAME_IT}")
            kind = file.schema_arrow.field(text_field).type
            types = pyarrow.types
            kind = kind.value_type if types.is_dictionary(kind) else kind
            if not any(is_text(kind) for is_text in (types.is_string, types.is_large_string, types.is_string_view)):
                raise UserError(f"{name}: column {text_field!r} holds {kind}, not text: {_NAME_IT}")
            for batch in file.iter_batches(batch_size=256, columns=[text_field]):
                for document in batch.column(0).to_pylist():
                    if document:
                        yield True, document
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{name}: not readable as parquet: {' '.join(str(error).split())}") from None
