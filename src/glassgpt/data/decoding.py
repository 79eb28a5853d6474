"""Bytes to text, a chunk at a time: UTF-8, and a clear word about anything else."""

import codecs
import re
from collections.abc import Iterable, Iterator

from glassgpt.errors import UserError

MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"  # the byte order mark, which is no part of a text that begins with it
_MARKED = (  # the longer ones first: UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_MAGIC = (
    (b"%PDF-", "a PDF, not text: extract its text first (pdftotext)"),
    (b"PK\x03\x04", "a zip archive (as .docx, .odt and .epub are), not text: unpack it, or save it as plain text"),
    (b"\x1f\x8b", "packed with gzip: give it a name that ends in .gz, or unpack it (gunzip)"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd: give it a name that ends in .zst, or unpack it (unzstd)"),
    (b"BZh", "packed with bzip2: unpack it first (bunzip2)"),
    (b"\xfd7zXZ\x00", "packed with xz: unpack it first (unxz)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive, not text: unpack it first"),
    (b"PAR1", "a parquet file: give it a name that ends in .parquet"),
)
_HEAD = 4096  # bytes that tell what a file is


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
    head = b""
    for chunk in chunks:
        if len(head) < _HEAD:
            head += chunk[: _HEAD - len(head)]
        if b"\x00" in chunk:
            _explain(head, name)
            raise UserError(f"{name}: a binary file, not text (a zero byte at position {position + chunk.index(0)})")
        text = return_held + _decode(decoder, chunk, position, name, head)
        if text and not begun:
            text, begun = text.removeprefix(MARK), True
        position += len(chunk)
        return_held = "\r" if text.endswith("\r") else ""
        yield text.removesuffix("\r").replace("\r\n", "\n")
    yield return_held + _decode(decoder, b"", position, name, head, final=True)


def decode_bytes(data: bytes, name: str) -> str:
    """The text of some bytes, as `decoded` reads a file.

    Raises:
        UserError: they are not UTF-8 text.
    """
    return "".join(decoded([data], name))


def normalised(text: str) -> str:
    """A text as `decoded` gives it: without a byte order mark, newlines as they are on Unix."""
    return text.removeprefix(MARK).replace("\r\n", "\n")


def unescaped(text: str) -> str:
    r"""An option's value in which `\n`, `\t` and `\r` mean these characters, and `\\` a backslash.

    A shell passes on `'\n'` as two characters. Any other backslash stands for itself.
    """
    return re.sub(r"\\([ntr\\])", lambda found: _ESCAPES[found[1]], text)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def is_text(head: bytes) -> bool:
    """Whether a file that begins with these bytes, cut anywhere, can be read as text."""
    if b"\x00" in head or head.startswith(b"%PDF-"):  # which may begin with kilobytes of plain ASCII
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _explain(head: bytes, name: str) -> None:
    """Say what a file is that turned out to be no UTF-8, if its first bytes tell.

    Raises:
        UserError: they do.
    """
    for mark, encoding in _MARKED:
        if head.startswith(mark):
            raise UserError(f"{name}: {encoding}, not UTF-8: convert it (iconv -f {encoding} -t UTF-8)")
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise UserError(f"{name}: {what}")
    if head[257:262] == b"ustar":
        raise UserError(f"{name}: a tar archive, not text: unpack it first (tar -xf), and name the folder")
    unmarked = _without_mark(head)
    if unmarked:
        raise UserError(
            f"{name}: {unmarked} without a byte order mark, it seems, not UTF-8: convert it "
            f"(iconv -f {unmarked} -t UTF-8)"
        )


def _without_mark(head: bytes) -> str | None:
    """The encoding of bytes of which every second is zero, or three in four: text of mostly western letters."""
    for encoding, width, place in (("UTF-32LE", 4, 0), ("UTF-32BE", 4, 3), ("UTF-16LE", 2, 0), ("UTF-16BE", 2, 1)):
        if len(head) < width:
            continue
        columns = [head[start::width][: len(head) // width] for start in range(width)]
        low = columns.pop(place)
        zeros = sum(column.count(0) for column in columns)
        if low.count(0) == 0 and zeros >= 0.7 * len(low) * (width - 1):
            return encoding
    return None


def _decode(
    decoder: codecs.IncrementalDecoder, chunk: bytes, position: int, name: str, head: bytes, *, final: bool = False
) -> str:
    waiting = len(decoder.getstate()[0])
    try:
        return decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        _explain(head, name)
        raise UserError(
            f"{name}: not UTF-8 (byte 0x{error.object[error.start]:02x} at position "
            f"{position - waiting + error.start}): convert it (iconv -f LATIN1 -t UTF-8, if that is what it is)"
        ) from None
