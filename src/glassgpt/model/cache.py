"""What a model keeps of what it has read, so that it need not read it again: keys, values and the last few ids.

`KVCache` is the memory, for sequences of one length; `RowsCache` looks at the same memory as rows that are each as long
as they are, and takes one more token of each.
"""

import copy

import torch
from torch import Tensor

from glassgpt.model.config import ModelConfig


class KVCache:
    """Preallocated room for the keys and values of every layer.

    The caller owns it: make one, pass it to the model with each new piece of the sequence, and `clear` it to begin
    another. Modules keep no position of their own; the model calls `advance` once, after its last block.

    Args:
        config: the model's shape.
        batch_size: B, sequences side by side.
        length: room in tokens; the model's block size if left out.

    Attributes:
        keys, values: for each layer, (B, G, S, D).
        length: how many tokens it holds.
        last_ids: the newest of them, (B, ngrams - 1), which n-gram embeddings look back at; the vocabulary's size
            stands for "nothing".
        mask: None; the causal one is all it takes.
    """

    mask: Tensor | None = None

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        *,
        length: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        self.capacity = config.block_size if length is None else length
        self.length = 0
        shape = (batch_size, config.kv_heads, self.capacity, config.head_width)  # (B, G, S, D)
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layer)]
        self.values = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layer)]
        self._nothing = torch.full((batch_size, config.ngrams - 1), config.vocabulary, device=device)
        self.last_ids = self._nothing

    def positions(self, tokens: int) -> slice | Tensor:
        """Where the next tokens stand."""
        return slice(self.length, self.length + tokens)

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put one layer's new keys and values, (B, G, T, D), behind what is there; return all, (B, G, S, D).

        Raises:
            ValueError: there is not enough room.
        """
        end = self.length + keys.shape[-2]
        if end > self.capacity:
            raise ValueError(f"the cache has room for {self.capacity} tokens and holds {self.length}: {end} do not fit")
        self.keys[layer][:, :, self.length : end] = keys
        self.values[layer][:, :, self.length : end] = values
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def advance(self, ids: Tensor) -> None:
        """Count the tokens that every layer has now seen, (B, T), and note the last of them."""
        self.length += ids.shape[1]
        self.last_ids = torch.cat((self.last_ids, ids), dim=1)[:, ids.shape[1] :]

    def clear(self) -> None:
        """Begin another sequence in the same memory."""
        self.length = 0
        self.last_ids = self._nothing

    def select(self, rows: Tensor) -> None:
        """Let row i go on from what row `rows[i]` has read, (R,); there may be more rows than before, or fewer."""
        for memory in (self.keys, self.values):
            for layer, held in enumerate(memory):
                room = held if len(rows) == len(held) else held.new_zeros(len(rows), *held.shape[1:])
                room[:, :, : self.length] = held[rows, :, : self.length]
                memory[layer] = room
        self._nothing, self.last_ids = self._nothing[rows], self.last_ids[rows]

    def row(self, index: int) -> "KVCache":
        """One of the sequences as a cache of its own, empty, in the same memory."""
        one = copy.copy(self)
        one.keys = [keys[index : index + 1] for keys in self.keys]
        one.values = [values[index : index + 1] for values in self.values]
        one._nothing = self._nothing[index : index + 1]
        one.clear()
        return one


class RowsCache:
    """Rows of different lengths, each taking one more token: what the model is given while it decodes.

    Every row is looked at as far as the longest reaches, and a mask leaves out what is not there. All that changes from
    step to step is in tensors, so that a step can be compiled or captured once.

    Args:
        keys, values: for each layer, (B, G, S, D).
        lengths: tokens that each row has read, (B,): the new one's position.
        slots: where each row's new keys and values go, (B,). Usually its length; where the oldest are written over,
            somewhere else.
        seen: the slots to look at, (n,): 0 up to the longest row's.
        last_ids: of each row, (B, ngrams - 1).
    """

    def __init__(
        self, keys: list[Tensor], values: list[Tensor], lengths: Tensor, slots: Tensor, seen: Tensor, last_ids: Tensor
    ):
        self.keys, self.values, self.lengths, self.slots, self.last_ids = keys, values, lengths, slots, last_ids
        self.rows = torch.arange(lengths.shape[0], device=lengths.device)
        self.reach = seen.shape[0]  # (not len(), which a compiler would take for a constant)
        self.mask = (seen <= lengths[:, None])[:, None, None]  # (B, 1, 1, n); past a full block, all of them

    def positions(self, tokens: int) -> Tensor:
        """Where the next token of each row stands, (B, 1)."""
        assert tokens == 1, "rows of different lengths take one token each"
        return self.lengths[:, None]

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put one layer's new keys and values, (B, G, 1, D), into their slots; return all, (B, G, n, D)."""
        self.keys[layer][self.rows, :, self.slots] = keys[:, :, 0]
        self.values[layer][self.rows, :, self.slots] = values[:, :, 0]
        return self.keys[layer][:, :, : self.reach], self.values[layer][:, :, : self.reach]

    def advance(self, ids: Tensor) -> None:
        """Note the last ids, (B, 1); whoever owns the rows counts them."""
        self.last_ids = torch.cat((self.last_ids, ids), dim=1)[:, 1:]
