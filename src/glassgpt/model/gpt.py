"""The transformer: ids in, logits out."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.model.cache import KVCache, RowsCache
from glassgpt.model.config import ModelConfig
from glassgpt.model.embeddings import NgramEmbedding
from glassgpt.model.init import initialise
from glassgpt.model.layers import Block
from glassgpt.model.norms import make_norm
from glassgpt.model.positions import Rotation, rotary_table, sinusoidal_table


class GPT(nn.Module):
    """A decoder-only transformer (Radford et al., 2018 and 2019): embeddings, blocks, norm, output layer.

    Args:
        config: the shape; `vocab_size` must be set.
    """

    waves: Tensor
    rotations: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocabulary, config.n_embd)
        self.position_embedding = (
            nn.Embedding(config.block_size, config.n_embd) if config.position == "learned" else None
        )
        self.ngram_embedding = NgramEmbedding(config) if config.ngrams > 1 else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        # A post-norm block already ends in a norm.
        self.final_norm = make_norm(config) if config.norm_position == "pre" else nn.Identity()
        # Tied: there is no second matrix, so that no file and no optimizer ever meets the same weights twice.
        self.lm_head = None if config.tie_weights else nn.Linear(config.n_embd, config.vocabulary, bias=False)
        self.dropout = config.dropout_for("embd")
        if config.position == "sinusoidal":
            self.register_buffer("waves", sinusoidal_table(config.block_size, config.n_embd), persistent=False)
        if config.position == "rotary":
            table = rotary_table(config.block_size, config.head_width, config.rope_base, config.rope_pairing)
            self.register_buffer("rotations", table, persistent=False)
        initialise(self, config)

    def forward(self, ids: Tensor, cache: KVCache | RowsCache | None = None, *, only_last: bool = False) -> Tensor:
        """The scores of every next token.

        Args:
            ids: (B, T) int64. With a cache, the T tokens that follow those it holds.
            cache: filled and advanced by T, if given.
            only_last: score only what follows the last position, which with a large vocabulary saves a third of the
                work of reading a prompt.

        Returns:
            Logits (B, T, V): row t scores the token after position t. With `only_last`, (B, 1, V).

        Raises:
            ValueError: the sequence, with what the cache holds, is longer than the block size.
        """
        T = ids.shape[1]
        at = slice(T) if cache is None else cache.positions(T)
        if isinstance(at, slice) and at.stop > self.config.block_size:
            raise ValueError(f"{at.stop} tokens do not fit the block size {self.config.block_size}: crop them first")
        x = self.token_embedding(ids)  # (B, T, C)
        if self.ngram_embedding is not None:
            before = self.ngram_embedding.nothing(len(ids), ids.device) if cache is None else cache.last_ids
            x = x + self.ngram_embedding(ids, before)
        if self.position_embedding is not None:
            x = x + self.position_embedding.weight[at]
        elif self.config.position == "sinusoidal":
            # The waves have size 1; √C brings the embeddings nearer to it, as in the paper they come from.
            x = x * math.sqrt(self.config.n_embd) + self.waves[at]
        x = F.dropout(x, self.dropout, self.training) if self.dropout else x
        rotation = self._rotation(at)
        for layer, block in enumerate(self.blocks):
            x = block(x, layer, rotation, cache)
        if cache is not None:
            cache.advance(ids)
        return self.read_out(x[:, -1:] if only_last else x)

    def read_out(self, x: Tensor) -> Tensor:
        """The residual stream (B, T, C) to logits (B, T, V): the last norm, the output layer, the cap."""
        x = self.final_norm(x)
        logits = F.linear(x, self.token_embedding.weight) if self.lm_head is None else self.lm_head(x)  # (B, T, V)
        cap = self.config.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def make_cache(self, batch_size: int) -> KVCache:
        """An empty cache for B sequences of up to the block size, where this model is and in its number format."""
        weight = self.token_embedding.weight
        return KVCache(self.config, batch_size, device=weight.device, dtype=weight.dtype)

    def _rotation(self, at: slice | Tensor) -> Rotation | None:
        if self.config.position != "rotary":
            return None
        cos, sin = self.rotations[:, at]  # (T, D) each, or (B, T, D) where rows stand at different positions
        if cos.dim() == 3:
            cos, sin = cos[:, None], sin[:, None]  # the same for all heads
        return Rotation(cos, sin, self.config.rope_pairing)
