"""From logits to the next token, as plain functions: each one filter, and the draw.

Logits are (B, V) float; a token that is filtered out gets -inf. Filters follow transformers' processors of the same
names, their order too: repetition penalty, temperature, top-k, top-p, min-p, typical.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from glassgpt.generation.config import SamplingConfig

NEVER = float("-inf")
SCALE = 2.0**36  # the likeliest token's weight
NO_WEIGHT = -40.0  # exp of this, times SCALE, is below 1


def below_highest(logits: Tensor) -> Tensor:
    """Logits less the highest of them, (B, V) float64: logarithms of how likely tokens are beside the likeliest."""
    logits = logits.double()
    return logits - logits.amax(dim=-1, keepdim=True)


def token_weights(logits: Tensor) -> Tensor:
    """How likely tokens are beside the likeliest one, in whole numbers up to 2^36: (B, V) float64.

    Whole numbers, because their sums are exact as long as they stay below 2^53 (131,072 tokens can all be as likely as
    the likeliest): the same whoever is added, with whom and in which order. So a few candidates give the token that
    the whole vocabulary gives. A token less likely than the likeliest one's 2^-36 (1.5e-11) is never drawn.
    """
    return (below_highest(logits).exp() * SCALE).floor()


def penalise_repetition(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Make each token that stands in `ids` (B, S) less likely, once (CTRL, Keskar et al., 2019)."""
    scores = logits.gather(-1, ids)
    return logits.scatter(-1, ids, torch.where(scores < 0, scores * penalty, scores / penalty))


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k likeliest tokens, and those as likely as the k-th; all if k is 0 or not below V."""
    if not 0 < k < logits.shape[-1]:
        return logits
    kth = logits.topk(k).values[..., -1:]
    return logits.masked_fill(logits < kth, NEVER)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest likeliest tokens whose probabilities reach p together; at least one (Holtzman et al., 2019).

    Of tokens that are equally likely, those of lower id come first.
    """
    if p >= 1:
        return logits
    order = below_highest(logits).argsort(dim=-1, descending=True, stable=True)
    weights = token_weights(logits).gather(-1, order)
    likelier = weights.cumsum(dim=-1) - weights  # than each of them, together
    tail = likelier >= p * weights.sum(dim=-1, keepdim=True)  # p is reached without them
    tail[..., 0] = False
    return logits.masked_fill(torch.zeros_like(tail).scatter(-1, order, tail), NEVER)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens at least p times as likely as the likeliest (Nguyen et al., 2024)."""
    if p <= 0:
        return logits
    return logits.masked_fill(token_weights(logits) < p * SCALE, NEVER)


def keep_typical(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest tokens that reach p together, those first that surprise about as much as is to be expected, and
    any as near to that as the last of them (locally typical sampling, Meister et al., 2022).

    How far a token's surprise, -log of its probability, is from the expected one, the entropy, is how far its logit is
    from the expected logit.
    """
    if p >= 1:
        return logits
    offsets, weights = below_highest(logits), token_weights(logits)
    total = weights.sum(dim=-1, keepdim=True)
    expected = (weights * offsets.clamp(min=NO_WEIGHT)).sum(dim=-1, keepdim=True) / total
    distance, order = (offsets - expected).abs().sort(dim=-1, stable=True)
    before_last = (weights.gather(-1, order).cumsum(dim=-1) < p * total).sum(dim=-1, keepdim=True)
    return logits.masked_fill((offsets - expected).abs() > distance.gather(-1, before_last), NEVER)


def filter_logits(logits: Tensor, ids: Tensor, config: SamplingConfig) -> Tensor:
    """All that a configuration asks for, in order; its temperature must not be 0.

    Args:
        logits: (B, V).
        ids: the tokens so far, (B, S).

    Returns:
        (B, V); softmax of it is what the next token is drawn by.
    """
    if config.repetition_penalty != 1:
        logits = penalise_repetition(logits, ids, config.repetition_penalty)
    logits = keep_top_k(logits / config.temperature, config.top_k or 0)
    logits = keep_min_p(keep_top_p(logits, config.top_p), config.min_p)
    return keep_typical(logits, config.typical_p)


def draw(logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one token a row by its probability: one number from the row's own generator, looked up in the sums.

    A row's draw depends on its logits and generator only, never on the rows beside it.
    """
    sums = token_weights(logits).cumsum(dim=-1)  # (B, V)
    darts = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators]).to(sums.device)
    totals = sums[:, -1]
    darts = (darts * totals).floor().minimum(totals - 1)  # rounding must not reach the total
    return torch.searchsorted(sums, darts[:, None], right=True).squeeze(-1)
