"""From documents of any size to blocks of a size that a process likes, without changing a single token.

The end of the text is kept for validation; it is cut off before anything is encoded, by characters, so that every
tokenizer is judged on the same text.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from glassgpt.data.sources import Piece

BLOCK = 2**21  # characters
Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")


class SplitPiece(NamedTuple):
    """A piece of text, which split it is in, and whether a document begins with it."""

    split: Split
    begins: bool
    text: str


def split_pieces(pieces: Iterable[Piece], cut: int) -> Iterator[SplitPiece]:
    """The first `cut` characters for training, the rest for validation; a document there becomes two."""
    position = 0
    for begins, text in pieces:
        before = max(0, min(len(text), cut - position))
        if before:
            yield SplitPiece("train", begins, text[:before])
        if before < len(text):
            yield SplitPiece("val", begins or position + before == cut, text[before:])
        position += len(text)


class Segment(NamedTuple):
    """A part of a document.

    Attributes:
        text: where it ends, the next one can begin with no change to the tokens of either.
        begins: a document begins here.
        first: it is the first of its split.
        after_line: what is before it ends with a newline.
    """

    text: str
    begins: bool
    first: bool
    after_line: bool


@dataclass(frozen=True)
class Block:
    """What one process encodes at a time: many short documents, or a part of a long one."""

    split: Split
    segments: tuple[Segment, ...]


def make_blocks(pieces: Iterable[SplitPiece], safe_cut: Callable[[str], int], size: int = BLOCK) -> Iterator[Block]:
    """Collect pieces into blocks of about `size` characters; they depend on the text alone.

    Args:
        pieces: as `split_pieces` gives them.
        safe_cut: the last place where a text may be cut, 0 for nowhere (then the block grows until there is one).
        size: characters.
    """
    collector = _Collector(safe_cut, size)
    for piece in pieces:
        yield from collector.take(piece)
    yield from collector.finish()


class _Collector:
    def __init__(self, safe_cut: Callable[[str], int], size: int):
        self._safe_cut, self._size = safe_cut, size
        self._split: Split = "train"
        self._segments: list[Segment] = []
        self._length = 0  # of the segments
        self._held: list[str] = []  # of the document under way
        self._held_length, self._try_at = 0, size
        self._begins, self._first, self._after_line = False, True, False

    def take(self, piece: SplitPiece) -> Iterator[Block]:
        if piece.split != self._split:
            yield from self.finish()
            self._split, self._first = piece.split, True
        if piece.begins:
            self._end_segment("".join(self._held))
            if self._length >= self._size:
                yield self._block()
            self._held, self._held_length, self._begins = [], 0, True
        self._held.append(piece.text)
        self._held_length += len(piece.text)
        while self._length + self._held_length >= self._try_at:
            text = "".join(self._held)
            place = self._safe_cut(text)
            self._held, self._try_at = [text[place:]], self._try_at * 2  # nowhere to cut: look again when it is longer
            self._held_length = len(self._held[0])
            if place:
                self._end_segment(text[:place])
                yield self._block()

    def finish(self) -> Iterator[Block]:
        self._end_segment("".join(self._held))
        self._held, self._held_length = [], 0
        if self._segments:
            yield self._block()

    def _end_segment(self, text: str) -> None:
        if text:
            self._segments.append(Segment(text, self._begins, self._first, self._after_line))
            self._length += len(text)
            self._begins, self._first, self._after_line = False, False, text.endswith("\n")

    def _block(self) -> Block:
        block = Block(self._split, tuple(self._segments))
        self._segments, self._length, self._try_at = [], 0, self._size
        return block
