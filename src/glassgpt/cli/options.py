"""Kinds of options that several commands have."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token

from glassgpt.cli.lookup import check_run
from glassgpt.errors import UserError
from glassgpt.paths import expand

BUG = 1
"""The exit code of what no user can cause."""

USER_ERROR = 2
"""The exit code of what a user can fix."""

INTERRUPTED = 130
"""The exit code that shells expect of a program that Ctrl-C ended."""

MOST = 2**64
"""No whole number on the command line reaches it: seeds go furthest."""

Switch = Parameter(negative=())
"""A flag that is there or not; no --no-… twin."""

Repeated = Parameter(negative=(), allow_leading_hyphen=True)
"""A list, one value each time the option is given; a value may be - for standard input."""


class WrongValueError(UserError):
    """The value behind an option is no such value; whoever reports it names both."""


class UnknownOptionError(ValueError):
    """A word among the sources looks like an option."""


def _no_option(_type: Any, word: str) -> None:
    """Only the hyphen alone is a source; more behind it is an unknown option."""
    if word.startswith("-") and word != "-":
        raise UnknownOptionError(word)


Source = Annotated[str, Parameter(allow_leading_hyphen=True, validator=_no_option)]
"""Where text comes from, as a word of the command; - for standard input."""


def _of_one(convert: Callable[[str], Any]) -> Callable[[Any, Sequence[Token]], Any]:
    """A converter that takes one word at a time."""
    return lambda _type, tokens: convert(tokens[0].value)


def whole_number(word: str) -> int:
    """An integer as it is written: 1.5 is refused, not rounded.

    Raises:
        WrongValueError: it is none, or is beyond `MOST`.
    """
    try:
        number = int(word)
    except ValueError:
        digits = word.strip().lstrip("+-").replace("_", "")
        if not digits.isdecimal():
            raise WrongValueError("a whole number is needed") from None
        number = MOST  # of more digits than Python reads
    if abs(number) >= MOST:
        raise WrongValueError(f"too large: {len(word.strip().lstrip('+-'))} digits") from None
    return number


WholeNumber = Annotated[int, Parameter(converter=_of_one(whole_number))]


def number(word: str) -> float:
    """A finite number.

    Raises:
        WrongValueError: it is none.
    """
    try:
        found = float(word)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise WrongValueError("a finite number is needed")
    return found


Number = Annotated[float, Parameter(converter=_of_one(number))]

FilePath = Annotated[Path, Parameter(converter=_of_one(expand))]
"""A file or folder; a leading ~ is the home folder, whichever way the shell passes it on."""

RunPath = Annotated[Path, Parameter(converter=_of_one(check_run))]
"""A run folder that is there."""


def _prompt(word: str) -> str:
    from glassgpt.data.decoding import normalised

    return normalised(word)


Prompt = Annotated[str, Parameter(allow_leading_hyphen=True, converter=_of_one(_prompt))]
"""A text that is read as a file is: without a byte order mark, with newlines as on Unix."""


def _escaped(word: str) -> str:
    from glassgpt.data.decoding import unescaped

    return unescaped(word)


Escaped = Annotated[str, Parameter(allow_leading_hyphen=True, converter=_of_one(_escaped))]
r"""A text in which \n, \t, \r and \\ mean a newline, a tab, a carriage return and a backslash."""
