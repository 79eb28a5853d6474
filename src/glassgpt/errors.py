"""What a user can cause, in one line that names the thing and the fix."""

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr

_REPR = Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 100


class UserError(ValueError):
    """Something that a user gave is wrong. The command line prints the message alone and exits with 2."""


class DamagedError(UserError):
    """A file is missing, or does not hold what it should; not: it cannot be read just now."""


class UnreadableError(UserError):
    """A file cannot be read just now: the operating system refuses it, and may not the next time."""


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known name if there is one, else all of them."""
    names = sorted(known)
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else shorten(f"known: {', '.join(names)}", 300)


def shorten(text: object, most: int = 100) -> str:
    """A value as part of a message: on one line, cut in the middle if it has more than `most` characters."""
    try:
        line = " ".join(str(text).split())
    except ValueError:  # an integer of more digits than Python prints
        line = "a number of thousands of digits"
    if len(line) <= most:
        return line
    return f"{line[: most - 20]}…{line[-12:]}"


def show(value: object) -> str:
    """A value as Python writes it, shortened; also one that is too deep or too long to be written."""
    try:
        return shorten(_REPR.repr(value))
    except (RecursionError, ValueError):
        return f"a {type(value).__name__} too large to show"


def reason(error: BaseException) -> str:
    """Why something failed, in a few words: what the operating system says, else the error's first line."""
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror)
    if isinstance(error, RecursionError):
        return "nested too deep"
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # some errors cannot say what they are
        lines = []
    return shorten(lines[0], 200) if lines else type(error).__name__


def printable(text: str) -> str:
    """Text for a terminal: control characters, which move its cursor or change its settings, become visible signs.

    Newlines and tabs stay. So do all letters of all scripts; what turns the direction of writing does not.
    """
    return "".join(map(_visible, text)) if not text.isprintable() else text


def _visible(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    code = ord(character)
    if code < 32:
        return chr(0x2400 + code)  # Unicode's pictures of control characters
    if character.isspace() or 0xD800 <= code < 0xE000:
        return " " if character.isspace() else "\ufffd"
    joins = code in (0x200C, 0x200D)  # between letters of Persian or Hindi, and within emoji
    return character if joins or unicodedata.category(character) not in ("Cc", "Cf") else "\ufffd"
