"""Batches as a pure function of (seed, number): batch k can be made without batch k - 1."""

from collections.abc import Iterator, Sequence
from operator import index
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassgpt.data.tokens import token_type
from glassgpt.errors import UserError, reason, show


def as_token_array(ids: Sequence[int], vocab_size: int) -> NDArray[np.integer]:
    """Ids in the smallest unsigned integers that hold the vocabulary.

    Raises:
        UserError: an id is not in the vocabulary, or no whole number.
    """
    vocab_size = _whole_number("vocab_size", vocab_size, most=2**32)
    array = _whole_numbers("ids", ids)
    if len(array) and not 0 <= int(array.min()) <= int(array.max()) < vocab_size:
        raise UserError(f"ids from {array.min()} to {array.max()}: with vocab_size {vocab_size}, 0 to {vocab_size - 1}")
    return array.astype(token_type(vocab_size), copy=False)


def _whole_number(name: str, value: int, most: int = 2**62, least: int = 1) -> int:
    try:
        number = index(value)
    except TypeError:
        raise UserError(f"{name} {show(value)}: a whole number is needed") from None
    if not least <= number <= most:
        raise UserError(f"{name} {show(number)}: from {least} to {most:,}")
    return number


def _whole_numbers(name: str, values: Any) -> NDArray[np.integer]:
    """One row of whole numbers; what is mapped into memory stays there.

    Raises:
        UserError: they are anything else.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"{name}: a row of whole numbers is needed: {reason(error)}") from None
    if array.ndim == 1 and not len(array):
        return array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise UserError(f"{name}: a row of whole numbers is needed, not {array.ndim} dimensions of {array.dtype}")
    return array


class Batches:
    """Training batches: windows of a text, at random places or every one once an epoch.

    Args:
        ids: the training text in tokens.
        block_size: T, the length of a window; a window takes T + 1 tokens, since targets are one further on.
        batch_size: B, windows a batch.
        seed: with the batch's number, decides which windows.
        order: "windows": each place is drawn at random; "epochs": every window once in a random order, then again in
            another. A batch may reach from one epoch into the next, so all are full.
        stride: epochs: tokens from one window's start to the next; the block size if left out.
        documents: where documents begin; no window reaches from one into the next then, and documents shorter than a
            window are left out. None: the text is taken as one.

    Attributes:
        n_windows: how many different windows there are.

    Raises:
        UserError: the text, or every document, is shorter than one window, or an argument makes no sense.
    """

    def __init__(
        self,
        ids: NDArray[np.integer],
        block_size: int,
        batch_size: int,
        *,
        seed: int = 0,
        order: Literal["windows", "epochs"] = "windows",
        stride: int | None = None,
        documents: NDArray[np.integer] | None = None,
    ):
        if order not in ("windows", "epochs"):
            raise UserError(f"order {show(order)}: windows or epochs")
        self.ids = _whole_numbers("ids", ids)
        self.block_size = block_size = _whole_number("block_size", block_size)
        self.batch_size = _whole_number("batch_size", batch_size)
        self.seed, self.order = _whole_number("seed", seed, 2**63, 0), order
        stride = block_size if stride is None else _whole_number("stride", stride)
        self.stride = stride if order == "epochs" else 1
        self._begins, lengths = _extents(self.ids, documents)
        longest = int(lengths.max(initial=0))
        if longest < block_size + 1:
            shorter = f", or --model.block-size {longest - 1} or less" if longest > 1 else ""
            what = "training text has" if documents is None else "longest document of the training text has"
            raise UserError(
                f"the {what} {longest} tokens, but one window takes {block_size + 1}: take more text{shorter}"
            )
        counts = np.maximum(0, (lengths - block_size - 1) // self.stride + 1)
        self._last = np.cumsum(counts)  # windows up to and with each document
        self.n_windows = int(self._last[-1])
        self._offsets = np.arange(block_size + 1)
        self._epoch: tuple[int, NDArray[np.int64]] | None = None

    @property
    def per_epoch(self) -> int:
        """Batches until every window has been seen once."""
        return -(-self.n_windows // self.batch_size)

    def __call__(self, number: int) -> tuple[Tensor, Tensor]:
        """Batch `number` (from 0): inputs (B, T) and targets (B, T), int64, targets one token further on."""
        starts = self.starts(number)
        rows = self.ids[starts[:, None] + self._offsets].astype(np.int64)  # (B, T + 1)
        tokens = torch.from_numpy(rows)
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def starts(self, number: int) -> NDArray[np.int64]:
        """Where the windows of batch `number` begin, (B,)."""
        if self.order == "windows":
            rng = np.random.default_rng((self.seed, number))
            return self._places(rng.integers(self.n_windows, size=self.batch_size))
        first = number * self.batch_size
        places = np.arange(first, first + self.batch_size)
        epochs, within = places // self.n_windows, places % self.n_windows
        windows = np.empty_like(places)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            chosen = epochs == epoch
            windows[chosen] = self._order_of(epoch)[within[chosen]]
        return self._places(windows)

    def _places(self, windows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where windows begin in the text, by their numbers."""
        document = np.searchsorted(self._last, windows, side="right")
        earlier = np.where(document > 0, self._last[document - 1], 0)
        return self._begins[document] + (windows - earlier) * self.stride

    def _order_of(self, epoch: int) -> NDArray[np.int64]:
        """All windows in the order of one epoch; kept until another epoch is asked for."""
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, np.random.default_rng((self.seed, epoch)).permutation(self.n_windows))
        return self._epoch[1]


class Windows:
    """A whole text in windows that do not overlap, for evaluation: every token but the first is predicted once.

    Args:
        ids: the text in tokens.
        block_size: T; the last window may be shorter.
        batch_size: windows a batch.
        max_tokens: look only at this many tokens, in windows spread evenly over the text; None: at all.
        documents: where documents begin; no window reaches from one into the next then, and the first token of each is
            not predicted. None: the text is taken as one.

    Raises:
        UserError: there are not even two tokens, or an argument makes no sense.
    """

    def __init__(
        self,
        ids: NDArray[np.integer],
        block_size: int,
        batch_size: int = 32,
        *,
        max_tokens: int | None = None,
        documents: NDArray[np.integer] | None = None,
    ):
        self.ids = _whole_numbers("ids", ids)
        self.block_size = block_size = _whole_number("block_size", block_size)
        self.batch_size = _whole_number("batch_size", batch_size)
        begins, lengths = _extents(self.ids, documents)
        counts = np.maximum(0, -(-(lengths - 1) // block_size))  # windows in each document
        if not counts.any():
            raise UserError(f"a text of {len(ids)} tokens cannot be evaluated: it takes two or more")
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # number in its document
        self.starts = np.repeat(begins, counts) + block_size * within
        self.lengths = np.minimum(block_size, np.repeat(begins + lengths, counts) - 1 - self.starts)
        if max_tokens is not None and _whole_number("max_tokens", max_tokens) < self.tokens:
            wanted = max(1, max_tokens // block_size)
            chosen = np.linspace(0, len(self.starts) - 1, min(wanted, len(self.starts))).astype(int)
            self.starts, self.lengths = self.starts[chosen], self.lengths[chosen]

    @property
    def tokens(self) -> int:
        """How many tokens are predicted."""
        return int(self.lengths.sum())

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets, (B, T) each: full windows in the text's order, then shorter ones by their lengths."""
        for length in sorted(set(self.lengths.tolist()), reverse=True):
            starts = self.starts[self.lengths == length]
            for i in range(0, len(starts), self.batch_size):
                rows = self.ids[starts[i : i + self.batch_size, None] + np.arange(length + 1)]
                tokens = torch.from_numpy(rows.astype(np.int64))
                yield tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def _extents(
    ids: NDArray[np.integer], documents: NDArray[np.integer] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where documents begin, and how long they are."""
    begins = np.zeros(1, np.int64) if documents is None else _whole_numbers("documents", documents).astype(np.int64)
    if len(begins) and not (begins[0] >= 0 and begins[-1] <= len(ids) and np.all(begins[:-1] <= begins[1:])):
        raise UserError(f"documents: where each begins is needed, in order, from 0 to {len(ids)}")
    return begins, np.diff(begins, append=len(ids))
