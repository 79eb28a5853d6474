"""Kinds of options that several commands have."""

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token

INTERRUPTED = 130
"""The exit code that shells expect of a program that Ctrl-C ended."""

Switch = Parameter(negative=())
"""A flag that is there or not; no --no-… twin."""

Repeated = Parameter(negative=(), allow_leading_hyphen=True)
"""A list, one value each time the option is given; a value may be - for standard input."""


def _whole_number(_type: Any, tokens: Sequence[Token]) -> int:
    """An integer as it is written: 1.5 is refused, not rounded."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"a whole number is needed, not {tokens[0].value!r}") from None


WholeNumber = Annotated[int, Parameter(converter=_whole_number)]
