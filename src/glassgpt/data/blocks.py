"""From documents of any size to blocks of a size that a process likes, without changing a single token.

The end of the text is kept for validation; it is cut off before anything is encoded, by characters, so that every
tokenizer is judged on the same text.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

from glassgpt.data.rows import Part

BLOCK = 2**21  # characters
MOST_UNCUT = 2**24  # characters of a text without a safe place to cut: it is held in memory, and so is all made of it
Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")


class SplitPart(NamedTuple):
    """A part of a text, and which split it is in."""

    split: Split
    part: Part


def split_parts(parts: Iterable[Part], cut: int) -> Iterator[SplitPart]:
    """The first `cut` characters for training, the rest for validation; a document there becomes two."""
    position = 0
    for begins, texts in parts:
        ends = list(accumulate(map(len, texts), initial=position))
        if ends[-1] <= cut:
            yield SplitPart("train", Part(begins, texts))
        elif position >= cut:
            yield SplitPart("val", Part(begins or position == cut, texts))
        else:
            across = bisect_left(ends, cut + 1) - 1  # the first text that ends behind the cut
            before = texts[across][: cut - ends[across]]
            yield SplitPart("train", Part(begins, texts[:across] + [before] * bool(before)))
            yield SplitPart("val", Part(True, [texts[across][len(before) :], *texts[across + 1 :]]))
        position = ends[-1]


@dataclass(frozen=True)
class Block:
    """What one process encodes at a time: many short documents, or a part of a long one.

    Attributes:
        split: which.
        texts: where one ends, the next can begin with no change to the tokens of either. A document begins with each,
            but perhaps not with the first.
        begins: whether one begins with the first.
        first: whether this is the first block of its split.
        after_line: whether what is before it ends with a newline.
    """

    split: Split
    texts: tuple[str, ...]
    begins: bool
    first: bool
    after_line: bool

    @property
    def characters(self) -> int:
        """The length of all texts."""
        return sum(map(len, self.texts))


def make_blocks(parts: Iterable[SplitPart], safe_cut: Callable[[str], int], size: int = BLOCK) -> Iterator[Block]:
    """Collect parts into blocks of about `size` characters; they depend on the text alone.

    A text with no safe place in `MOST_UNCUT` characters is cut all the same, behind a line or a word if there is one:
    there alone tokens may be others than in one piece.

    Args:
        parts: as `split_parts` gives them.
        safe_cut: the last place where a text may be cut, 0 for nowhere (then the block grows until there is one).
        size: characters.
    """
    collector = _Collector(safe_cut, size)
    for split, part in parts:
        yield from collector.take(split, part)
    yield from collector.finish()


class _Collector:
    def __init__(self, safe_cut: Callable[[str], int], size: int):
        self._safe_cut, self._size = safe_cut, size
        self._split: Split = "train"
        self._texts: list[str] = []
        self._length = 0  # of the texts
        self._held: list[str] = []  # of the document under way
        self._held_length, self._try_at = 0, size
        self._begins = False  # with the document under way, if there are no texts yet
        self._block_begins, self._first, self._after_line = False, True, False  # of the block under way

    def take(self, split: Split, part: Part) -> Iterator[Block]:
        if split != self._split:
            yield from self.finish()
            self._split, self._first = split, True
        texts, number = part.texts, 0
        if not part.begins:
            yield from self._hold(texts[0])
            number = 1
        ends = list(accumulate(map(len, texts), initial=0))
        while number < len(texts):
            self._end_text("".join(self._held))
            if self._length >= self._size:
                yield self._block()
            self._held, self._held_length, self._begins = [], 0, True
            # As many as surely fit are taken whole; the next one may have to be cut, and the last may go on.
            room = ends[number] + self._size - self._length
            fitting = min(bisect_left(ends, room) - 1, len(texts) - 1)
            if fitting > number:
                self._end_text(texts[number])
                self._texts += texts[number + 1 : fitting]
                self._length += ends[fitting] - ends[number + 1]
                number, self._begins = fitting, True
            yield from self._hold(texts[number])
            number += 1

    def _hold(self, text: str) -> Iterator[Block]:
        """Take more of the document under way, and cut it if that is enough for a block."""
        self._held.append(text)
        self._held_length += len(text)
        while self._length + self._held_length >= self._try_at:
            text = "".join(self._held)
            place = self._safe_cut(text)
            if not place and len(text) >= MOST_UNCUT:
                place = _any_cut(text)
            self._held, self._try_at = [text[place:]], self._try_at * 2  # nowhere to cut: look again when it is longer
            self._held_length = len(self._held[0])
            if place:
                self._end_text(text[:place])
                yield self._block()

    def finish(self) -> Iterator[Block]:
        self._end_text("".join(self._held))
        self._held, self._held_length = [], 0
        if self._texts:
            yield self._block()

    def _end_text(self, text: str) -> None:
        if text:
            if not self._texts:
                self._block_begins = self._begins
            self._texts.append(text)
            self._length += len(text)
            self._begins = False

    def _block(self) -> Block:
        block = Block(self._split, tuple(self._texts), self._block_begins, self._first, self._after_line)
        self._after_line, self._first = self._texts[-1].endswith("\n"), False
        self._texts, self._length, self._try_at = [], 0, self._size
        return block


def _any_cut(text: str) -> int:
    """Behind the last line, else before the last space, else the end."""
    line = text.rfind("\n", len(text) // 2) + 1
    if line:
        return line
    space = text.rfind(" ", len(text) // 2)
    return space if space > 0 else len(text)
