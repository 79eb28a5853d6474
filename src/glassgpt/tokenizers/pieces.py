"""Pre-tokenisation: text into pieces. Byte pairs merge within a piece and never across two, so that `dog.` and `dog!`
share their `dog`."""

from functools import cache
from typing import TYPE_CHECKING

import regex

from glassgpt.errors import UserError, show
from glassgpt.tokenizers.expressions import Expression

if TYPE_CHECKING:
    import tiktoken

# What the names stand for. The third column is where a long text may be cut in two with no change to its pieces,
# searched from the text's end: `(?r)`.
_NAMED = {
    "gpt2": (
        # contractions; words, numbers, signs, each with the space before it; the space before a word stays with it
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"(?r)(?<=\S)\s",  # no piece has white space behind anything else
    ),
    "gpt4": (
        # the same in any case, at most three digits together, and newlines stay with the signs before them
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
        r"|\s+(?!\S)|\s",
        r"(?r)(?<=[\r\n])\S|(?<=[A-Za-z]) ",
    ),
}
PATTERNS = tuple(_NAMED)
# The older spelling of GPT-4's, which Llama 3 and others have; only white space at a text's end is cut otherwise.
_OLDER_GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


class Pieces:
    """How text is cut before it is tokenised; always so that the pieces joined are the text.

    Args:
        pattern: "gpt2", "gpt4" (the published patterns of these models), or a regular expression of the package
            `regex`. What it does not match becomes pieces too, between its matches.

    Raises:
        UserError: it is not a regular expression, or too large a one; while cutting: it takes all time or memory.
    """

    def __init__(self, pattern: str):
        if not isinstance(pattern, str):
            raise UserError(f"a pattern is a text (str), not {show(pattern)}")
        self.pattern = pattern
        self.named = pattern in _NAMED
        self.expression, boundary = _NAMED.get(
            pattern, (pattern, _NAMED["gpt4"][1] if pattern == _OLDER_GPT4 else None)
        )
        meaning = f"neither {' nor '.join(PATTERNS)} nor a pattern"
        self._matcher = Expression(self.expression, meaning, trusted=self.named)
        self._boundary = boundary and regex.compile(boundary)

    def cut(self, text: str) -> list[str]:
        """The pieces of a text, in order; joined, they are the text."""
        shadow = _in_tiktokens_classes(text) if self.named else text
        if self._matcher.groups == 0:
            pieces: list[str] = self._matcher.find_all(shadow)
            if shadow is text and sum(map(len, pieces)) == len(text):
                return pieces if "" not in pieces else [piece for piece in pieces if piece]
        pieces, end = [], 0
        for match in self._matcher.find_iter(shadow):
            pieces += [text[end : match.start()], text[match.start() : match.end()]]
            end = match.end()
        return [piece for piece in (*pieces, text[end:]) if piece]

    def safe_cut(self, text: str) -> int:
        """The last place where a text can be cut so that its two parts have the same pieces apart as together.

        0 if there is none, or none known, as for a pattern of one's own.
        """
        found = self._boundary and self._boundary.search(text)
        return found.start() if found else 0


# tiktoken's regular expressions and the package regex follow different versions of Unicode, so each may know letters
# and numbers that the other does not. Where they differ, tiktoken decides, as it does for everyone's GPT-2: our engine
# is shown another character in its place, one of the class that tiktoken sees.

_STAND_INS = {"letter": "ª", "number": "²", "other": "§"}
_agreed = set(map(chr, range(128)))
_replaced: dict[str, str] = {}


def _in_tiktokens_classes(text: str) -> str:
    """The text with each character replaced whose class is another one in tiktoken's version of Unicode."""
    if text.isascii():
        return text
    characters = set(text)
    for character in characters - _agreed - _replaced.keys():
        theirs = _class_in_tiktoken(character)
        if theirs == _class_in_regex(character):
            _agreed.add(character)
        else:
            _replaced[character] = _STAND_INS[theirs]
    differing = characters & _replaced.keys()
    return text.translate({ord(character): _replaced[character] for character in differing}) if differing else text


def _class_in_regex(character: str) -> str:
    return "letter" if _LETTER.match(character) else "number" if _NUMBER.match(character) else "other"


def _class_in_tiktoken(character: str) -> str:
    if 0xD800 <= ord(character) < 0xE000:
        return "other"  # lone surrogates never get to tiktoken
    letters, numbers = _keeps_only(r"\p{L}"), _keeps_only(r"\p{N}")
    return (
        "letter" if letters.encode_ordinary(character) else "number" if numbers.encode_ordinary(character) else "other"
    )


_LETTER, _NUMBER = regex.compile(r"\p{L}"), regex.compile(r"\p{N}")


@cache
def _keeps_only(expression: str) -> "tiktoken.Encoding":
    """An encoding that drops whatever the expression does not match."""
    import tiktoken

    every_byte = {bytes([byte]): byte for byte in range(256)}
    return tiktoken.Encoding("probe", pat_str=expression, mergeable_ranks=every_byte, special_tokens={})
