"""Bytes to text, a chunk at a time: UTF-8, and a clear word about anything else."""

import codecs
from collections.abc import Iterable, Iterator

from glassgpt.errors import UserError


def decoded(chunks: Iterable[bytes], name: str) -> Iterator[str]:
    """The text of a file's bytes: UTF-8 with or without a byte order mark; newlines as they are on Unix.

    Args:
        chunks: the bytes, cut anywhere.
        name: of the file, for messages.

    Raises:
        UserError: it is binary, UTF-16, or not UTF-8; the message says where.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    begun, position, return_held = False, 0, ""  # a carriage return at a chunk's end waits for what follows
    for chunk in chunks:
        if position == 0 and chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UserError(f"{name}: UTF-16, not UTF-8: convert it (iconv -f UTF-16 -t UTF-8)")
        if b"\x00" in chunk:
            raise UserError(f"{name}: a binary file, not text (a zero byte at position {position + chunk.index(0)})")
        text = return_held + _decode(decoder, chunk, position, name)
        if text and not begun:
            text, begun = text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}"), True
        position += len(chunk)
        return_held = "\r" if text.endswith("\r") else ""
        yield text.removesuffix("\r").replace("\r\n", "\n")
    yield return_held + _decode(decoder, b"", position, name, final=True)


def _decode(decoder: codecs.IncrementalDecoder, chunk: bytes, position: int, name: str, *, final: bool = False) -> str:
    waiting = len(decoder.getstate()[0])
    try:
        return decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name}: not UTF-8 (byte 0x{error.object[error.start]:02x} at position "
            f"{position - waiting + error.start}): convert it (iconv -f LATIN1 -t UTF-8, if that is what it is)"
        ) from None
