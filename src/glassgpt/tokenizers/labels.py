"""Tokens as people can read them: white space that shows, and bytes that are no whole character."""

_VISIBLE = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"}


def token_label(data: bytes) -> str:
    """What a token's bytes look like: `·the`, `⏎`, `\\xf0\\x9f`.

    White space becomes a visible sign, what is not printable its code point, and bytes that are not UTF-8 by
    themselves, such as a part of a character, each its hexadecimal value.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in data)
    return "".join(
        _VISIBLE.get(c) or (c if c.isprintable() else f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}")
        for c in text
    )
