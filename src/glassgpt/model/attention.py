"""Causal attention: by hand, and fused into one kernel. Two functions of one signature that give the same result.

Axes: B batch, T queries, S keys (S >= T, since the cache may hold earlier ones), H query heads, G key/value heads,
D head width, C width of the residual stream.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.model.cache import KVCache, RowsCache
from glassgpt.model.config import ModelConfig
from glassgpt.model.norms import make_head_norm
from glassgpt.model.positions import Rotation


def causal_mask(queries: int, keys: int, device: torch.device | None = None) -> Tensor:
    """Who may look at whom: (T, S) booleans, True where query t may see key s.

    The queries are the *last* T of the S positions, so query t stands at position S - T + t and sees all keys up to
    there. (`is_causal=True` of torch aligns the mask to the first position instead, wrong for T < S.)
    """
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def _allowed(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool) -> Tensor | None:
    """The caller's mask and the causal one together; None if every query may look everywhere."""
    if not causal:
        return mask
    ahead_forbidden = causal_mask(q.shape[-2], k.shape[-2], q.device)
    return ahead_forbidden if mask is None else ahead_forbidden & mask


def attention_scores(q: Tensor, k: Tensor) -> Tensor:
    """How well each query fits each key, q kᵀ / √D: (B, H, T, D) and (B, G, S, D) to (B, H, T, S). Nothing is masked.

    H must be a multiple of G, and query head h meets key head h // (H / G).
    """
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)  # (B, H, S, D)
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


def attention_weights(q: Tensor, k: Tensor, *, mask: Tensor | None = None, causal: bool = True) -> Tensor:
    """How much each query takes from each key: softmax(q kᵀ / √D) over the keys it may see (Vaswani et al., 2017).

    Args:
        q: queries (B, H, T, D).
        k: keys (B, G, S, D).
        mask: booleans that broadcast to (B, H, T, S), True where looking is allowed; combined with `causal`.
        causal: forbid looking ahead, the queries being the last T of the S positions.

    Returns:
        Weights (B, H, T, S). A row sums to 1, or is all zero where the query may see nothing.
    """
    scores = attention_scores(q, k)  # (B, H, T, S)
    allowed = _allowed(q, k, mask, causal)
    if allowed is None:
        return scores.softmax(dim=-1)
    # The lowest finite number, not -inf: a row with nothing to see must come out as zeros, and its gradient too.
    weights = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return weights if mask is None else weights.masked_fill(~allowed, 0.0)


def manual_attention(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = True, dropout: float = 0.0
) -> Tensor:
    """Attention by hand: the weights, dropout on them, and the weighted sum of the values.

    Args: as for `attention_weights`; `v` are the values (B, G, S, D), `dropout` the chance to drop a weight.

    Returns:
        (B, H, T, D).
    """
    weights = F.dropout(attention_weights(q, k, mask=mask, causal=causal), dropout)
    return weights @ v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)


SHORT = 512
"""Up to so many keys, torch's CPU kernel in bfloat16 takes 1.1 to 4 times as long to train as the products by hand."""


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = True, dropout: float = 0.0
) -> Tensor:
    """The same as `manual_attention` in one kernel that never holds all the weights (Dao et al., 2022)."""
    queries, keys = q.shape[-2], k.shape[-2]
    if q.device.type == "cpu" and q.dtype is torch.bfloat16 and keys <= SHORT:
        return manual_attention(q, k, v, mask=mask, causal=causal, dropout=dropout)
    grouped = q.shape[1] != k.shape[1]
    if mask is None and (not causal or queries in (keys, 1)):  # no mask to build
        is_causal = causal and queries == keys
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=is_causal, enable_gqa=grouped)
    allowed = _allowed(q, k, mask, causal)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout, enable_gqa=grouped)


class CausalSelfAttention(nn.Module):
    """Multi-head self-attention: one projection for queries, keys and values, attention, one projection back.

    Fewer key/value heads than query heads (`n_kv_head`) is grouped-query attention (Ainslie et al., 2023); `qk_norm`
    normalises queries and keys before they meet (Henry et al., 2020).
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.n_head, self.n_kv_head, self.head_width = config.n_head, config.kv_heads, config.head_width
        self.qkv = nn.Linear(
            config.n_embd, (self.n_head + 2 * self.n_kv_head) * self.head_width, bias=config.has_qkv_bias
        )
        self.q_norm = make_head_norm(config) if config.qk_norm else None
        self.k_norm = make_head_norm(config) if config.qk_norm else None
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.attend = fused_attention if config.attention == "fused" else manual_attention
        self.dropout = config.dropout_for("attn")

    def forward(
        self, x: Tensor, layer: int, rotation: Rotation | None = None, cache: KVCache | RowsCache | None = None
    ) -> Tensor:
        """(B, T, C) to (B, T, C). With a cache, keys and values are kept in it as layer `layer`'s."""
        B, T, C = x.shape
        q, k, v = self.heads(x, rotation)
        mask = None
        if cache is not None:
            k, v = cache.extend(layer, k, v)  # (B, G, S, D)
            mask = cache.mask
        dropout = self.dropout if self.training else 0.0
        y = self.attend(q, k, v, mask=mask, causal=mask is None, dropout=dropout)  # (B, H, T, D)
        out: Tensor = self.proj(y.transpose(1, 2).reshape(B, T, C))
        return out

    def heads(self, x: Tensor, rotation: Rotation | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, T, D), keys and values (B, G, T, D), normalised and rotated as they are compared."""
        parts = self.qkv(x).split([n * self.head_width for n in (self.n_head, self.n_kv_head, self.n_kv_head)], dim=-1)
        q, k, v = (part.unflatten(-1, (-1, self.head_width)).transpose(1, 2) for part in parts)  # (B, heads, T, D)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotation(q), rotation(k)
        return q, k, v
