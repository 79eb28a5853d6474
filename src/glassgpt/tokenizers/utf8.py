"""UTF-8, with the two cases that Python's own codec leaves out: a lone surrogate, and a character cut at the end."""

import codecs

_LEAD_LENGTHS = ((0xF0, 4), (0xE0, 3), (0xC0, 2))  # a byte of at least this value begins a character of so many bytes


def encode_utf8(text: str) -> bytes:
    """The bytes of any string at all, lone surrogates included (as three bytes each)."""
    return text.encode("utf-8", "surrogatepass")


def decode_utf8(data: bytes) -> str:
    """The string of any bytes at all: the inverse of `encode_utf8`; what is no UTF-8 becomes U+FFFD."""
    return data.decode("utf-8", "glassgpt_surrogate_or_replace")


def unfinished_tail(data: bytes) -> int:
    """How many bytes at the end may be the beginning of a character that is not complete yet (0 to 3)."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:  # not a continuation byte: a character begins here, or it is ASCII
            return back if any(byte >= lead and back < length for lead, length in _LEAD_LENGTHS) else 0
    return 0


def _surrogate_or_replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    three = error.object[error.start : error.start + 3]
    try:
        return three.decode("utf-8", "surrogatepass"), error.start + 3
    except UnicodeDecodeError:
        return "\N{REPLACEMENT CHARACTER}", error.end


codecs.register_error("glassgpt_surrogate_or_replace", _surrogate_or_replace)
