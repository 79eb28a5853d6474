"""The bytes of a file, a chunk at a time, after gzip or zstd if its name says so."""

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from glassgpt.errors import UserError, reason
from glassgpt.imports import load
from glassgpt.reading import open_regular

PACKED_SUFFIXES = (".gz", ".zst")
CHUNK = 2**20  # bytes read at once
# Packed bytes read at once: four may unpack to 128 kB, so that these may become 64 MB, and no more.
_PACKED = 2**11


def bare_suffix(path: Path) -> str:
    """The suffix without the one that says how the file is packed."""
    bare = path.with_suffix("") if path.suffix.lower() in PACKED_SUFFIXES else path
    return bare.suffix.lower()


def unpacked(path: Path) -> Iterator[bytes]:
    """The bytes of a regular file in chunks of about a megabyte, however much it unpacks to.

    Raises:
        UserError: it cannot be read, is damaged, or the package for zstd is missing.
    """
    suffix = path.suffix.lower()
    try:
        with open_regular(path, "a text") as file:
            if suffix == ".zst":
                yield from _unpacked_zstd(path, file)
                return
            reader = gzip.GzipFile(fileobj=file) if suffix == ".gz" else file
            while chunk := reader.read(CHUNK):
                yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: damaged gzip file: {reason(error)}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {reason(error)}") from None


def _unpacked_zstd(path: Path, file: BufferedReader) -> Iterator[bytes]:
    zstandard = load("zstandard", f"{path}: reading zstd", "data")
    frame = None
    ready, size = [], 0
    try:
        while chunk := file.read(_PACKED):
            while chunk:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                data = frame.decompress(chunk)
                chunk = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
                ready.append(data)
                size += len(data)
                if size >= CHUNK:
                    whole = b"".join(ready)
                    ready, size = [], 0
                    yield from (whole[start : start + CHUNK] for start in range(0, len(whole), CHUNK))
    except zstandard.ZstdError as error:
        raise UserError(f"{path}: damaged zstd file: {reason(error)}") from None
    if frame is not None:
        raise UserError(f"{path}: damaged zstd file: it ends too early")
    if size:
        yield b"".join(ready)
