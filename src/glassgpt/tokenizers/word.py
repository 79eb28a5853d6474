"""Words as tokens: readable, short sequences, and the question what to do with a word that was never seen."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import regex
from pydantic import ConfigDict
from typing_extensions import TypedDict

from glassgpt.errors import show
from glassgpt.reading import checked
from glassgpt.tokenizers.base import END_OF_TEXT, Tokenizer, require_text
from glassgpt.tokenizers.utf8 import encode_utf8

UNKNOWN = "<|unk|>"
_PIECE = regex.compile(r" ?\w+| ?[^\w\s]|\s")  # a word or a sign, with the space before it; other white space by itself
_BOUNDARY = regex.compile(r"(?r)(?<=\S)\s")  # the last one


class _State(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    words: list[str]


class WordTokenizer(Tokenizer):
    """One id a word, sign or white space; a word with the space before it is a word of its own, so nothing is lost.

    A word that is known only without the space is spelled as space and word. Anything else becomes `<|unk|>`; the
    space before it stays.

    Args:
        words: the vocabulary, in the order of the ids. A single space is added if it is missing.

    Raises:
        ValueError: a word comes twice, or is not one piece of text.
    """

    kind: ClassVar[str] = "word"

    def __init__(self, words: Iterable[str]):
        self.words = list(words)
        if " " not in self.words:
            self.words.append(" ")
        self._ids = {word: token for token, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            raise ValueError("a word comes twice")
        wrong = next((word for word in self.words if not _PIECE.fullmatch(word)), None)
        if wrong is not None:
            raise ValueError(f"{show(wrong)} is not one word or sign")
        self._unknown = len(self.words)
        self._bytes = [encode_utf8(word) for word in (*self.words, UNKNOWN, END_OF_TEXT)]

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], *, vocab_size: int | None = None, min_count: int = 1) -> Self:
        """The most frequent words; of equally frequent ones, the first in code point order.

        Args:
            counts: how often each word occurs; as `cut_words` cuts them.
            vocab_size: the most entries, the special ones and the space included; None: no limit.
            min_count: leave out what occurs less often.
        """
        frequent = [word for word, count in counts.items() if count >= min_count and word != " "]
        frequent.sort(key=lambda word: (-counts[word], word))
        return cls([" ", *frequent[: None if vocab_size is None else max(0, vocab_size - 3)]])

    @property
    def vocab_size(self) -> int:
        """The words and the two special tokens."""
        return len(self._bytes)

    @property
    def special_tokens(self) -> dict[str, int]:
        """`<|unk|>` and `<|endoftext|>`. Unlike others, `<|unk|>` is what unknown words encode to."""
        return {UNKNOWN: self._unknown, END_OF_TEXT: self._unknown + 1}

    def encode(self, text: str) -> list[int]:
        """One id a word or sign; two where only the word without its space is known, or neither is."""
        require_text(text)
        ids: list[int] = []
        for piece in cut_words(text):
            token = self._ids.get(piece)
            if token is not None:
                ids.append(token)
            elif piece[0] == " ":
                ids += self._ids[" "], self._ids.get(piece[1:], self._unknown)
            else:
                ids.append(self._unknown)
        return ids

    def unknown_bits(self, text: str) -> float:
        """8 bits for each byte of each unknown word, and 8 to say that it ends."""
        bare = (piece.removeprefix(" ") for piece in cut_words(text) if piece not in self._ids)
        return float(sum(8 * (len(encode_utf8(word)) + 1) for word in bare if word not in self._ids))

    def safe_cut(self, text: str) -> int:
        """Before white space, which no word holds but at its beginning."""
        return word_boundary(text)

    def token_bytes(self, token: int) -> bytes:
        """The word, or the special token's name."""
        return self._bytes[token]

    def state(self) -> dict[str, Any]:
        """The words in the order of their ids."""
        return {"words": self.words}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """From the words."""
        words = checked(state, _State)["words"]
        if " " not in words:
            raise ValueError("there is no single space among the words")
        return cls(words)


def cut_words(text: str) -> list[str]:
    """The words and signs of a text; joined, they are the text."""
    words: list[str] = _PIECE.findall(text)
    return words


def word_boundary(text: str) -> int:
    """The last place before white space where a text can be cut with no change to its words; 0 if there is none."""
    found = _BOUNDARY.search(text)
    return found.start() if found else 0
