"""Byte-pair encoding: bytes as tokens, and then the pairs of tokens that are most worth one of their own.

Sennrich, Haddow and Birch (2016), https://arxiv.org/abs/1508.07909; on bytes, as in GPT-2. The vocabulary is learned
in `bpe_training.py`; here it is used.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import ConfigDict
from typing_extensions import TypedDict

from glassgpt.errors import UserError, show
from glassgpt.reading import checked
from glassgpt.tokenizers.base import END_OF_TEXT, Tokenizer, require_text
from glassgpt.tokenizers.pieces import Pieces
from glassgpt.tokenizers.utf8 import encode_utf8

if TYPE_CHECKING:
    import tiktoken

BYTES = [bytes([byte]) for byte in range(256)]
MOST_COMPARED = 2**32  # bytes of tokens, while it is made sure that each is made of two others: some seconds
MOST_SPECIAL, LONGEST_SPECIAL = 2**16, 1_000  # special tokens, and the characters of a name
LONGEST_PIECE = 2**24  # characters without a cut; the merges of more take more than a gigabyte
LONGEST_BY_HAND = 2**20  # the same in Python


def merge_bytes(data: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """The ids of one piece: its bytes, merged two parts at a time, always the pair with the lowest id first.

    Of several such pairs the leftmost comes first. The pairs wait in a heap, so n bytes take O(n log n).

    Args:
        data: the piece.
        ranks: every token's bytes, with its id.
    """
    if data in ranks:
        return [ranks[data]]
    # A part is known by where it begins: `ends` says where it ends (0: it was merged away), `before` where the part
    # to its left begins.
    ends = list(range(1, len(data) + 1))
    before = list(range(-1, len(data)))
    pairs = [(ranks[data[i : i + 2]], i, i + 2) for i in range(len(data) - 1) if data[i : i + 2] in ranks]
    heapify(pairs)
    while pairs:
        _, begin, end = heappop(pairs)
        middle = ends[begin]
        if not begin < middle < end or ends[middle] != end:
            continue  # one of the two has become part of another token since
        ends[begin], ends[middle] = end, 0
        before[end] = begin
        for left, right in ((before[begin], end), (begin, ends[end] if end < len(data) else 0)):
            if left >= 0 and right and (rank := ranks.get(data[left:right])) is not None:
                heappush(pairs, (rank, left, right))
    ids, begin = [], 0
    while begin < len(data):
        ids.append(ranks[data[begin : ends[begin]]])
        begin = ends[begin]
    return ids


class _State(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    pattern: str
    special: dict[str, int]
    tokens: list[str]


class BPETokenizer(Tokenizer):
    """Tokens are strings of bytes; text is cut into pieces, and in each piece pairs merge, lowest id first.

    Args:
        tokens: the bytes of each token, in the order in which they may merge; every single byte is among them.
        pattern: how text is cut into pieces first: see `Pieces`.
        special: names of tokens that no text encodes to. A sequence: their ids follow the others; a mapping: the ids.

    Raises:
        UserError: the pattern is no pattern.
        ValueError: a byte is missing, a token comes twice or can never be made, or ids are taken twice.
    """

    kind: ClassVar[str] = "bpe"

    def __init__(
        self,
        tokens: Iterable[bytes],
        pattern: str = "gpt2",
        special: Sequence[str] | Mapping[str, int] = (END_OF_TEXT,),
    ):
        self.tokens = list(tokens)
        self.pieces = Pieces(pattern)
        total = len(self.tokens) + len(special)
        ids = (
            special if isinstance(special, Mapping) else dict(zip(special, range(len(self.tokens), total), strict=True))
        )
        self._special = dict(ids)
        taken = set(self._special.values())
        free = [token for token in range(total) if token not in taken]
        if len(taken) != len(special) or len(free) != len(self.tokens):
            raise ValueError("the ids of the special tokens are not distinct and below the vocabulary's size")
        if "" in self._special:
            raise ValueError("a special token has no name")
        if len(self._special) > MOST_SPECIAL or max(map(len, self._special), default=0) > LONGEST_SPECIAL:
            raise ValueError(f"special tokens: at most {MOST_SPECIAL:,}, of at most {LONGEST_SPECIAL:,} characters")
        self.ranks = dict(zip(self.tokens, free, strict=True))
        self._bytes = [b""] * total
        for data, token in chain(self.ranks.items(), ((encode_utf8(n), i) for n, i in self._special.items())):
            self._bytes[token] = data
        self._check_tokens()

    def _check_tokens(self) -> None:
        if len(self.ranks) != len(self.tokens):
            raise ValueError("a token comes twice")
        if any(byte not in self.ranks for byte in BYTES):
            raise ValueError("not all single bytes are among the tokens")
        earlier, lengths, left = set(BYTES), {1}, MOST_COMPARED
        for data in self.tokens:
            if data not in earlier:
                size = len(data)
                # Of a long one, only places that are as far from both ends as an earlier token is long.
                places = range(1, size) if size < 100 else [n for n in lengths if size - n in lengths]
                for place in places:
                    left -= size
                    if left < 0:
                        raise ValueError(f"its tokens are too long to be looked through, such as {show(data)}")
                    if data[:place] in earlier and data[place:] in earlier:
                        break
                else:
                    raise ValueError(f"token {show(data)} is not made of two earlier ones")
            earlier.add(data)
            lengths.add(len(data))

    @property
    def vocab_size(self) -> int:
        """All tokens, the special ones included."""
        return len(self._bytes)

    @property
    def special_tokens(self) -> dict[str, int]:
        """`<|endoftext|>` if nothing else was asked for."""
        return dict(self._special)

    @property
    def pattern(self) -> str:
        """The name of the pattern, or the regular expression."""
        return self.pieces.pattern

    def encode(self, text: str) -> list[int]:
        """The ids of a text, by tiktoken's core: the same as `encode_by_hand`, many times faster.

        Raises:
            UserError: a piece is longer than `LONGEST_PIECE`, or a pattern of one's own takes all time.
        """
        require_text(text)
        begin, ids = 0, list[int]()
        while len(text) - begin > LONGEST_PIECE and (end := self.safe_cut(text[begin : begin + LONGEST_PIECE])):
            ids += self._encode(text[begin : begin + end])
            begin += end
        return ids + self._encode(text[begin:])

    def _encode(self, text: str) -> list[int]:
        if not _is_utf8(text):
            return self._encode_pieces(text, self._encode_any_piece)
        if self.pieces.named and len(text) <= LONGEST_PIECE and not _has_long_white_space(text):
            return self._core.encode_ordinary(text)
        return self._encode_pieces(text, self._core_for_pieces.encode_ordinary)

    def _encode_any_piece(self, piece: str) -> list[int]:
        """One with a lone surrogate by hand: tiktoken would put another character in its place."""
        if _is_utf8(piece):
            return self._core_for_pieces.encode_ordinary(piece)
        check_pieces([piece], LONGEST_BY_HAND)
        return merge_bytes(encode_utf8(piece), self.ranks)

    def encode_by_hand(self, text: str) -> list[int]:
        """The ids of a text, in plain Python from the first step to the last, to be read."""
        require_text(text)
        return self._encode_pieces(text, lambda piece: merge_bytes(encode_utf8(piece), self.ranks))

    def _encode_pieces(self, text: str, encode_piece: Callable[[str], list[int]]) -> list[int]:
        known: dict[str, list[int]] = {}  # a text has each of its words many times
        ids: list[int] = []
        pieces = self.pieces.cut(text)
        check_pieces(pieces)
        for piece in pieces:
            if (found := known.get(piece)) is None:
                found = known[piece] = encode_piece(piece)
            ids += found
        return ids

    def safe_cut(self, text: str) -> int:
        """Between two pieces that stay as they are."""
        return self.pieces.safe_cut(text)

    @cached_property
    def _core(self) -> "tiktoken.Encoding":
        """Cuts and merges."""
        return self._encoding(self.pieces.expression)

    @cached_property
    def _core_for_pieces(self) -> "tiktoken.Encoding":
        """Merges what is cut already, since for a pattern of one's own the engine that learned has to cut."""
        return self._encoding(r"(?s:.+)")

    def _encoding(self, expression: str) -> "tiktoken.Encoding":
        import tiktoken

        return tiktoken.Encoding("glassgpt", pat_str=expression, mergeable_ranks=self.ranks, special_tokens={})

    def token_bytes(self, token: int) -> bytes:
        """What the token stands for, or the special token's name."""
        return self._bytes[token]

    def state(self) -> dict[str, Any]:
        """The tokens as strings in which each character is one byte (Latin-1), the pattern, the special tokens."""
        return {
            "pattern": self.pattern,
            "special": self._special,
            "tokens": [data.decode("latin-1") for data in self.tokens],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """From tokens, pattern and special tokens."""
        known = checked(state, _State)
        return cls((token.encode("latin-1") for token in known["tokens"]), known["pattern"], known["special"])

    def __getstate__(self) -> dict[str, Any]:
        """To another process, without the cores, which each makes for itself."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_core")}


def check_pieces(pieces: Iterable[str], most: int = LONGEST_PIECE) -> None:
    """Make sure that pieces are such as can be merged: time and memory grow with the length of one.

    Raises:
        UserError: one has more than `most` characters.
    """
    longest = max(pieces, key=len, default="")
    if len(longest) > most:
        raise UserError(
            f"a piece of {len(longest):,} characters with nothing in it to cut at, {show(longest[:200])}: at most "
            f"{most:,}: leave it out of the text, or take a tokenizer whose pattern cuts it"
        )


def _is_utf8(text: str) -> bool:
    """Whether there is no lone surrogate in it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _has_long_white_space(text: str, length: int = 5_000) -> bool:
    """Whether twice `length` of white space stand together anywhere, at which tiktoken's engine may overflow."""
    return any(text[i : i + length].isspace() for i in range(0, len(text), length))
