"""What a user can cause, in one line that names the thing and the mend."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Something that a user gave is wrong. The command line prints the message alone and exits with 2."""


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known name if there is one, else all of them."""
    names = sorted(known)
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
