"""The baseline: what the next token is, told from the last one alone."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from glassgpt.model.cache import KVCache
from glassgpt.model.config import ModelConfig


class Bigram(nn.Module):
    """A table of logits, one row a token. The same interface as GPT, so it is trained, sampled and saved alike.

    Args:
        config: only `vocab_size` matters; `block_size` is what a batch's rows are cut to, as for any model.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.vocabulary, config.vocabulary)
        nn.init.zeros_(self.table.weight)  # every next token equally likely

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Ids (B, T) to logits (B, T, V). There is nothing to cache."""
        logits: Tensor = self.table(ids)
        return logits

    @classmethod
    def counted(cls, ids: Sequence[int] | np.ndarray, config: ModelConfig, smoothing: float = 1.0) -> "Bigram":
        """The best table for a text, by counting its pairs: no training.

        Args:
            ids: the training text, in tokens.
            config: `vocab_size` V must be set.
            smoothing: added to every count, so that a pair never seen has a probability (Laplace).
        """
        V = config.vocabulary
        ids = np.asarray(ids, dtype=np.int64)
        counts = np.bincount(ids[:-1] * V + ids[1:], minlength=V * V).reshape(V, V) + smoothing
        model = cls(config)
        with torch.no_grad():
            model.table.weight.copy_(torch.from_numpy(np.log(counts / counts.sum(axis=1, keepdims=True))))
        return model
