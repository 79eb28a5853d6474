"""Tokens as people can read them: white space that shows, and bytes that are no whole character."""

import unicodedata
from collections.abc import Mapping

_SIGNS = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"}


def token_label(data: bytes, signs: Mapping[str, str] = _SIGNS) -> str:
    """What a token's bytes look like: `·the`, `⏎`, `\\xf0\\x9f`; never nothing.

    White space becomes a visible sign, what is not printable its code point, an accent without its letter one on a
    dotted circle, and bytes that are not UTF-8 by themselves, such as a part of a character, their hexadecimal values.

    Args:
        data: the token's bytes.
        signs: what stands for white space, by character.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in data)
    label = "".join(signs.get(character) or _visible(character) for character in text)
    return ("◌" + label if unicodedata.combining(label[0]) else label) if label else "∅"


def _visible(character: str) -> str:
    if character.isprintable() and not "\ufe00" <= character <= "\ufe0f":  # (those change the look of what is before)
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 128 else f"\\u{code:04x}"  # \xa0 would be a byte
