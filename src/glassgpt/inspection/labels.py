"""Tokens as a picture can show them."""

from collections.abc import Iterable

from glassgpt.tokenizers import Tokenizer
from glassgpt.tokenizers.labels import token_label

SIGNS = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "\\r"}
"""What stands for white space: signs that the fonts of pictures have."""


def token_labels(tokenizer: Tokenizer, ids: Iterable[int]) -> list[str]:
    """One readable label for each id: `␣the`, `⏎`, `\\xe2\\x82` (a part of a character). None is empty.

    A model may know more ids than its tokenizer, if its vocabulary was rounded up: such an id is `#50300`.
    """
    known = range(tokenizer.vocab_size)
    return [token_label(tokenizer.token_bytes(i), SIGNS) if i in known else f"#{i}" for i in map(int, ids)]
