"""Kinds of options that several commands have."""

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token

BUG = 1
"""The exit code of what no user can cause."""

USER_ERROR = 2
"""The exit code of what a user can fix."""

INTERRUPTED = 130
"""The exit code that shells expect of a program that Ctrl-C ended."""

Switch = Parameter(negative=())
"""A flag that is there or not; no --no-… twin."""

Repeated = Parameter(negative=(), allow_leading_hyphen=True)
"""A list, one value each time the option is given; a value may be - for standard input."""


def _no_option(_type: Any, word: str) -> None:
    """Only the hyphen alone is a source; more behind it is an option that there is not."""
    if word.startswith("-") and word != "-":
        raise ValueError(f"unknown option {word!r} (see --help)")


Source = Annotated[str, Parameter(allow_leading_hyphen=True, validator=_no_option)]
"""Where text comes from, as a word of the command; - for standard input."""


def _whole_number(_type: Any, tokens: Sequence[Token]) -> int:
    """An integer as it is written: 1.5 is refused, not rounded."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"a whole number is needed, not {tokens[0].value!r}") from None


WholeNumber = Annotated[int, Parameter(converter=_whole_number)]
