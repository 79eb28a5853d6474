"""The token iterator: a prompt, then one new token at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from glassgpt.generation.sampling import Sampler


def generate_ids(
    model: nn.Module, prompt: Tensor, sample: Sampler, *, max_new_tokens: int, block_size: int, use_cache: bool = True
) -> Iterator[Tensor]:
    """Continue a prompt, one token a step, for every row at once.

    The prompt is read in one go, then each new token alone, the rest being in the cache. When the context is full, it
    is cropped to its last half (`block_size // 2` tokens), which is read again from position 0: one step in
    `block_size / 2` costs a prefill, all others one token, and the model never sees less than half a block.

    Args:
        model: any module that maps ids (B, T) to logits (B, T, V). One that has `make_cache` is asked for a cache.
        prompt: (B, T) int64, 1 <= T <= block_size.
        sample: chooses the next ids.
        max_new_tokens: how many steps.
        block_size: the most tokens that the model can look at.
        use_cache: False reads the whole context at every step: slower, the same logits.

    Yields:
        The new ids, (B,).
    """
    assert 1 <= prompt.shape[1] <= block_size, "the caller crops the prompt"
    rows, length = prompt.shape
    make_cache = getattr(model, "make_cache", None)
    cache = make_cache(rows) if use_cache and make_cache is not None else None
    ids = torch.empty(rows, length + max_new_tokens, dtype=torch.int64, device=prompt.device)
    ids[:, :length] = prompt
    start = 0  # the context is ids[:, start:length]
    for _ in range(max_new_tokens):
        if length - start > block_size:
            start = length - max(1, block_size // 2)
            if cache is not None:
                cache.clear()
        with torch.inference_mode():
            new = ids[:, start + (0 if cache is None else cache.length) : length]
            logits = model(new) if cache is None else model(new, cache)
            ids[:, length] = sample(logits[:, -1].float(), ids[:, :length])
        length += 1
        yield ids[:, length - 1].clone()
