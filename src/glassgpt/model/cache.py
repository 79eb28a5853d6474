"""What a model keeps of what it has read, so that it need not read it again: keys, values and the last few ids."""

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
        length: how many tokens it holds.
        last_ids: the newest of them, (B, ngrams - 1), which n-gram embeddings look back at; the vocabulary's size
            stands for "nothing".
    """

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
        shape = (config.n_layer, batch_size, config.kv_heads, self.capacity, config.head_width)  # (L, B, G, S, D)
        self._keys = torch.zeros(shape, device=device, dtype=dtype)
        self._values = torch.zeros(shape, device=device, dtype=dtype)
        self._nothing = torch.full((batch_size, config.ngrams - 1), config.vocabulary, device=device)
        self.last_ids = self._nothing

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put one layer's new keys and values, (B, G, T, D), behind what is there; return all, (B, G, S, D).

        Raises:
            ValueError: there is not enough room.
        """
        end = self.length + keys.shape[-2]
        if end > self.capacity:
            raise ValueError(f"the cache has room for {self.capacity} tokens and holds {self.length}: {end} do not fit")
        self._keys[layer, :, :, self.length : end] = keys
        self._values[layer, :, :, self.length : end] = values
        return self._keys[layer, :, :, :end], self._values[layer, :, :, :end]

    def advance(self, ids: Tensor) -> None:
        """Count the tokens that every layer has now seen, (B, T), and note the last of them."""
        self.length += ids.shape[1]
        self.last_ids = torch.cat((self.last_ids, ids), dim=1)[:, ids.shape[1] :]

    def clear(self) -> None:
        """Begin another sequence in the same memory."""
        self.length = 0
        self.last_ids = self._nothing
