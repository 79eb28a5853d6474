"""From logits to the next token: plain functions, each one filter, and a sampler composed of them.

Logits are (B, V) float; a token that is filtered out gets -inf. Filters follow transformers' processors of the same
names, their order too: repetition penalty, temperature, top-k, top-p, min-p.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from glassgpt.generation.config import SamplingConfig

Sampler = Callable[[Tensor, Tensor], Tensor]
"""Takes logits (B, V) and the ids so far (B, S); returns the next ids (B,)."""

NEVER = float("-inf")
GREEDY_BELOW = 1e-6  # dividing by a temperature as low as this overflows; the likeliest token has all the probability


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
    """Keep the fewest likeliest tokens whose probabilities reach p together; at least one (Holtzman et al., 2019)."""
    if p >= 1:
        return logits
    ascending, order = logits.sort(dim=-1)
    tail = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - p  # tokens so unlikely that p is reached without them
    tail[..., -1] = False
    return logits.masked_fill(torch.zeros_like(tail).scatter(-1, order, tail), NEVER)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens at least p times as likely as the likeliest (Nguyen et al., 2024)."""
    if p <= 0:
        return logits
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(dim=-1, keepdim=True), NEVER)


def draw(logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one token a row by its probability: one number from the row's own generator, looked up in the sums.

    A row's draw depends on its logits and generator only, never on the rows beside it.
    """
    probabilities = logits.double().softmax(dim=-1)
    sums = probabilities.cumsum(dim=-1)  # (B, V)
    darts = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators]).to(sums.device)
    last_possible = sums.shape[-1] - 1 - (probabilities > 0).flip(-1).int().argmax(dim=-1)  # rounding must not pass it
    found = torch.searchsorted(sums, (darts * sums[:, -1])[:, None], right=True).squeeze(-1)
    return torch.minimum(found, last_possible)


def make_sampler(config: SamplingConfig, seed: int, rows: int = 1) -> Sampler:
    """The sampler that a configuration asks for. Each row draws from a stream of its own, set by (seed, row)."""
    generators = [torch.Generator().manual_seed(_row_seed(seed, row)) for row in range(rows)]

    def sample(logits: Tensor, ids: Tensor) -> Tensor:
        if config.repetition_penalty != 1:
            logits = penalise_repetition(logits, ids, config.repetition_penalty)
        if config.temperature < GREEDY_BELOW:
            return logits.argmax(dim=-1)
        logits = logits / config.temperature
        logits = keep_top_k(logits, config.top_k or 0)
        logits = keep_top_p(logits, config.top_p)
        logits = keep_min_p(logits, config.min_p)
        return draw(logits, generators)

    return sample


def _row_seed(seed: int, row: int) -> int:
    return int(np.random.SeedSequence((seed, row)).generate_state(1, np.uint64)[0] >> np.uint64(1))
