"""Learning a byte-pair vocabulary: count the pieces, then merge the most frequent pair, again and again.

Only the distinct pieces are kept, each with its count, and after a merge only the pairs beside it are counted anew: the
text is read once, and a merge costs no more than its own occurrences.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import accumulate, chain

from glassgpt.parallel import ordered_map
from glassgpt.tokenizers.bpe import BYTES, LONGEST_PIECE, check_pieces
from glassgpt.tokenizers.utf8 import encode_utf8

MOST_PIECES = 2_000_000  # distinct pieces kept while counting: some 300 MB
MOST_CHARACTERS = 2**25  # of all of these: to learn from them takes 30 bytes for each
_EDGE = -1  # is no token's -L: a token of one byte has no last byte of its own
_INSIDE = -2
Pair = tuple[int, int]


def count(
    texts: Iterable[str],
    cut: Callable[[str], list[str]],
    *,
    workers: int = 1,
    progress: Callable[[str, int], None] | None = None,
) -> Counter[str]:
    """How often each piece occurs in the texts.

    Above `MOST_PIECES` distinct ones, or `MOST_CHARACTERS` in them, the rarer half is forgotten, so that memory is
    bounded. This depends on the texts and their order alone, not on the number of workers.

    Args:
        texts: such that no piece is cut in two.
        cut: text to pieces.
        workers: processes.
        progress: called with "characters" and their number, for each text that is counted.

    Raises:
        UserError: a piece is longer than `LONGEST_PIECE`; or as `cut`.
    """
    total: Counter[str] = Counter()
    characters = 0  # in the distinct pieces
    for length, counts in ordered_map(partial(_count, cut), _grouped(texts), workers):
        characters += sum(len(piece) for piece in counts if piece not in total)
        total.update(counts)
        if len(total) > MOST_PIECES or characters > MOST_CHARACTERS:
            frequent = total.most_common(MOST_PIECES // 2)
            ends = accumulate(len(piece) for piece, _ in frequent)
            total = Counter(
                {piece: n for (piece, n), end in zip(frequent, ends, strict=True) if end <= MOST_CHARACTERS // 2}
            )
            characters = sum(map(len, total))
        if progress:
            progress("characters", length)
    return total


def _count(cut: Callable[[str], list[str]], texts: Sequence[str]) -> tuple[int, Counter[str]]:
    length = sum(map(len, texts))
    counts = Counter(chain.from_iterable(map(cut, texts)))
    if length > LONGEST_PIECE:
        check_pieces(counts)
    return length, counts


def _grouped(texts: Iterable[str], characters: int = 2**20) -> Iterator[list[str]]:
    """Many short texts together: what goes to another process at a time should be worth the journey."""
    group: list[str] = []
    length = 0
    for text in texts:
        group.append(text)
        length += len(text)
        if length >= characters:
            yield group
            group, length = [], 0
    if group:
        yield group


def learn_tokens(
    counts: Mapping[str, int], n_tokens: int, progress: Callable[[str, int], None] | None = None
) -> list[bytes]:
    """The tokens of a byte-pair vocabulary: the 256 bytes, then one for each merge.

    The next merge is always the most frequent pair of neighbours; of equally frequent ones, the pair with the lower
    first id, then the lower second id. Neighbours are counted as they stand, overlapping ones too: `aaa` holds `aa`
    twice. So the result depends on the counts alone.

    Args:
        counts: how often each piece occurs in the text, as `count` gives it.
        n_tokens: how many tokens to end with; there are fewer when no pair occurs twice any more.
        progress: called with "tokens" and 1 after each merge.
    """
    return _Learner(counts).learn(n_tokens, progress)


class _Learner:
    """All pieces in one array of ids, and for each pair its count and where it is.

    A token of L bytes stands at the place of its first byte; the place of its last byte holds -L, so that the token to
    the left of any place can be found, and between two pieces there is one `_EDGE`. Nothing ever moves.
    """

    def __init__(self, counts: Mapping[str, int]):
        self.tokens = list(BYTES)
        self.ids = array("i", [_EDGE])
        self.weights = array("q", [0])  # at each place: how often its piece occurs
        for piece, count in counts.items():
            data = encode_utf8(piece)
            if len(data) > 1:
                self.ids.extend(data)
                self.ids.append(_EDGE)
                self.weights.extend([count] * (len(data) + 1))
        self.pairs: dict[Pair, int] = {}
        self.places: dict[Pair, array[int]] = {}
        self.touched: set[Pair] = set()
        for place in range(1, len(self.ids) - 1):
            if self.ids[place] >= 0 and self.ids[place + 1] >= 0:
                self._add((self.ids[place], self.ids[place + 1]), place)

    def learn(self, n_tokens: int, progress: Callable[[str, int], None] | None) -> list[bytes]:
        # Counts in the heap may be out of date, but only too high, as a pair only grows in the merge that makes it:
        # whatever comes first is put back if it is, so the true maximum is found.
        heap = [(-count, pair) for pair, count in self.pairs.items()]
        heapify(heap)
        while len(self.tokens) < n_tokens and heap:
            count, pair = heappop(heap)
            now = self.pairs.get(pair, 0)
            if now != -count:
                if now > 0:
                    heappush(heap, (-now, pair))
            elif now < 2:
                break
            else:
                for made in self._merge(pair):
                    heappush(heap, (-self.pairs[made], made))
                if progress:
                    progress("tokens", 1)
        return self.tokens

    def _merge(self, pair: Pair) -> set[Pair]:
        """Replace a pair by a new token wherever it is; return the pairs that this makes."""
        ids, new = self.ids, len(self.tokens)
        (first, second), lengths = pair, (len(self.tokens[pair[0]]), len(self.tokens[pair[1]]))
        self.tokens.append(self.tokens[first] + self.tokens[second])
        length = sum(lengths)
        self.touched.clear()
        for place in self.places.pop(pair):  # from left to right, as they were noted
            middle = place + lengths[0]
            if ids[place] != first or ids[middle] != second:
                continue  # another merge has used one of the two since this was noted
            end = place + length
            before = ids[place - 1]
            if before != _EDGE:
                left = place - 1 if before >= 0 else place + before
                self._remove((ids[left], first), place)
                self._add((ids[left], new), left)
            if ids[end] != _EDGE:
                self._remove((second, ids[end]), place)
                self._add((new, ids[end]), place)
            ids[middle] = _INSIDE
            ids[place], ids[end - 1] = new, -length
        self.pairs.pop(pair)
        return {made for made in self.touched if self.pairs.get(made, 0) > 0}

    def _add(self, pair: Pair, place: int) -> None:
        self.pairs[pair] = self.pairs.get(pair, 0) + self.weights[place]
        if pair not in self.places:
            self.places[pair] = array("i")
        self.places[pair].append(place)
        self.touched.add(pair)

    def _remove(self, pair: Pair, place: int) -> None:
        self.pairs[pair] -= self.weights[place]
