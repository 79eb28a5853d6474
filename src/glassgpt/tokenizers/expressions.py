"""Regular expressions of users and of imported files: bounded in what they become, and in how long they search.

A few characters can take all memory when they are compiled, `(?:(?:a{1000}){1000}){1000}`, and for ever when they are
matched, `(a|a)+$`. Both end in one line here, and in the processes that encode beside this one, too.
"""

from collections.abc import Iterator
from typing import Any

import regex

from glassgpt.errors import UserError, reason, show

MOST_CHARACTERS = 10_000  # GPT-4o's has 300
MOST_PARTS = 100_000  # as the package regex writes repeats out: {1000} is a thousand parts
SECONDS = 10.0  # of the processor's time, for any text
SECONDS_PER_CHARACTER = 5e-6  # on top: usual patterns take a hundredth to a tenth of it
_REPEAT = regex.compile(r"(?:\{([0-9]*+)(?:,[0-9]*+)?\}|[*+?])[+?]?")
_ITEM = regex.compile(r"\\(?s:.)|\[\^?+\]?+(?s:\\.|[^\]\\])*+\]|(?s:.)")  # an escape, a class, any other character


class Expression:
    """A regular expression of the package `regex` that cannot take all memory or all time.

    Args:
        pattern: its text.
        meaning: what it is instead, where it is none, for the message.
        trusted: it is ours, and known to take little time: looking at the clock takes as long as matching.

    Raises:
        UserError: it is not one, searches backwards, or is larger than any text needs.
    """

    def __init__(self, pattern: str, meaning: str = "no pattern", *, trusted: bool = False):
        self.pattern, self._trusted = pattern, trusted
        try:
            if len(pattern) > MOST_CHARACTERS:
                raise ValueError(f"it has {len(pattern):,} characters, and {MOST_CHARACTERS:,} are the most")
            if parts(pattern) > MOST_PARTS:
                raise ValueError(f"its repeats make it more than {MOST_PARTS:,} parts: lower their numbers")
            self._compiled: regex.Pattern[str] = regex.compile(pattern)
            if self._compiled.flags & regex.REVERSE:
                raise ValueError("it searches backwards")
        except Exception as error:  # of many kinds: regex's own checks are not complete
            raise UserError(f"{show(pattern)} is {meaning}: {reason(error)}") from None
        self.groups = self._compiled.groups

    def find_all(self, text: str) -> list[Any]:
        """What `findall` of a compiled pattern returns."""
        try:
            return self._compiled.findall(text, timeout=self._seconds(text))
        except (TimeoutError, MemoryError, RecursionError) as error:
            raise self._too_slow(error) from None

    def find_iter(self, text: str) -> Iterator["regex.Match[str]"]:
        """What `finditer` of a compiled pattern returns."""
        try:
            yield from self._compiled.finditer(text, timeout=self._seconds(text))
        except (TimeoutError, MemoryError, RecursionError) as error:
            raise self._too_slow(error) from None

    def matches(self, text: str) -> bool:
        """Whether it matches at the beginning of a text."""
        try:
            return self._compiled.match(text, timeout=self._seconds(text)) is not None
        except (TimeoutError, MemoryError, RecursionError) as error:
            raise self._too_slow(error) from None

    def _seconds(self, text: str) -> float | None:
        return None if self._trusted else SECONDS + len(text) * SECONDS_PER_CHARACTER

    def _too_slow(self, error: BaseException) -> UserError:
        what = "all time" if isinstance(error, TimeoutError) else "all memory"
        return UserError(
            f"the pattern {show(self.pattern)} takes {what} on this text, as where repeats within repeats match the "
            "same characters in many ways: choose a simpler one"
        )


def parts(pattern: str) -> int:
    """How many parts a pattern has, all repeats written out; if these are many, not less than `regex` makes of it."""
    most = len(pattern)
    for found in _REPEAT.finditer(pattern):
        most *= _count(found)
        if most > MOST_PARTS:
            # Each repeat around all of it would be too much. In free spacing, nobody can tell what is a comment.
            has_comments = regex.search(r"\(\?(?:#|[a-zA-Z0-9]*x)", pattern)
            return most if has_comments else _written_out(pattern)
    return most


def _count(repeat: "regex.Match[str]") -> int:
    """How often `regex` writes out what a repeat stands behind: as often as it must come, and once for the rest."""
    if repeat[0][0] != "{":
        return 2 if repeat[0][0] == "+" else 1
    return 1 + int(repeat[1] or 0) if len(repeat[1]) < 10 else 10**9


def _written_out(pattern: str) -> int:
    open_groups = [0]  # parts of each group that is open, outermost first
    last, place = 0, 0  # parts of the last item, which a repeat would repeat
    while place < len(pattern):
        if found := _REPEAT.match(pattern, place):
            more = last * (_count(found) - 1)
            open_groups[-1] += more
            last += more
        else:
            found = _ITEM.match(pattern, place)
            assert found is not None  # any character is an item
            if found[0] == "(":
                open_groups.append(0)
            elif found[0] == ")" and len(open_groups) > 1:
                last = 1 + open_groups.pop()
                open_groups[-1] += last
            else:
                last = len(found[0])
                open_groups[-1] += last
        place = found.end()
    return sum(open_groups)
