"""Batches as a pure function of (seed, number): batch k can be made without batch k - 1."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassgpt.errors import UserError


def as_token_array(ids: Sequence[int], vocab_size: int) -> NDArray[np.integer]:
    """Ids in the smallest unsigned integers that hold the vocabulary."""
    return np.asarray(ids, dtype=np.min_scalar_type(vocab_size - 1))


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

    Raises:
        UserError: the text is shorter than one window.
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
    ):
        if len(ids) < block_size + 1:
            shorter = f", or --model.block-size {len(ids) - 1} or less" if len(ids) > 1 else ""
            raise UserError(
                f"the training text has {len(ids)} tokens, but one window takes {block_size + 1}: "
                f"take more text{shorter}"
            )
        self.ids, self.block_size, self.batch_size = ids, block_size, batch_size
        self.seed, self.order = seed, order
        self.stride = (stride or block_size) if order == "epochs" else 1
        self.n_windows = (len(ids) - block_size - 1) // self.stride + 1
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
            return np.random.default_rng((self.seed, number)).integers(self.n_windows, size=self.batch_size)
        first = number * self.batch_size
        places = np.arange(first, first + self.batch_size)
        epochs, within = places // self.n_windows, places % self.n_windows
        windows = np.empty_like(places)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            chosen = epochs == epoch
            windows[chosen] = self._order_of(epoch)[within[chosen]]
        return windows * self.stride

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

    Raises:
        UserError: there are not even two tokens.
    """

    def __init__(
        self, ids: NDArray[np.integer], block_size: int, batch_size: int = 32, *, max_tokens: int | None = None
    ):
        if len(ids) < 2:
            raise UserError(f"a text of {len(ids)} tokens cannot be evaluated: it takes two or more")
        self.ids, self.block_size, self.batch_size = ids, block_size, batch_size
        starts = np.arange(0, len(ids) - 1, block_size)
        if max_tokens is not None and max_tokens < len(ids) - 1:
            wanted = max(1, max_tokens // block_size)
            starts = starts[np.linspace(0, len(starts) - 1, min(wanted, len(starts))).astype(int)]
        self.starts = starts

    @property
    def tokens(self) -> int:
        """How many tokens are predicted."""
        return int(np.minimum(self.starts + self.block_size, len(self.ids) - 1).sum() - self.starts.sum())

    def predicted(self) -> NDArray[np.integer]:
        """The tokens that are predicted, in the text's order."""
        return np.concatenate([self.ids[start + 1 : start + 1 + self.block_size] for start in self.starts])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets, (B, T) each, in the text's order; the short last window comes by itself."""
        full = self.starts[self.starts + self.block_size < len(self.ids)]
        for i in range(0, len(full), self.batch_size):
            yield self._cut(full[i : i + self.batch_size], self.block_size)
        for start in self.starts[len(full) :]:
            yield self._cut(np.array([start]), len(self.ids) - 1 - int(start))

    def _cut(self, starts: NDArray[np.int64], length: int) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(self.ids[starts[:, None] + np.arange(length + 1)].astype(np.int64))
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
