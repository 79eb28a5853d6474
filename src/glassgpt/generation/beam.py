"""Beam search: the likeliest texts as wholes, as far as looking at a few beginnings at a time can find them."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from glassgpt.errors import UserError, show
from glassgpt.generation.arguments import check_prompt_tensor, whole_number
from glassgpt.model.cache import KVCache


@torch.inference_mode()
def beam_search(
    model: nn.Module,
    prompt: Tensor,
    *,
    beams: int,
    max_new_tokens: int,
    end_ids: Collection[int] = (),
    length_penalty: float = 1.0,
    block_size: int,
) -> list[tuple[list[int], float]]:
    """Continue a prompt by what is likely as a whole, not token by token.

    After each token the `beams` likeliest unfinished texts go on. A text that ends in one of `end_ids` is finished if
    it is among the `beams` likeliest then. The search is over when no unfinished text can come before those found.

    Args:
        model: ids (B, T) to logits (B, T, V), in evaluation mode; a cache is used if it has `make_cache`.
        prompt: (T,) int64, 1 <= T <= block_size.
        beams: how many texts to look at, and how many to return; 1 is greedy.
        max_new_tokens: the most tokens of a text.
        end_ids: tokens that end a text. They are part of it.
        length_penalty: a text's score is the sum of its log-probabilities divided by its length to this power: above 0
            favours long texts, below 0 short ones, 0 is the probability itself.
        block_size: the most tokens that the model can look at. A longer text is cropped to its last half, as always.

    Returns:
        Up to `beams` continuations and their scores, the best first.

    Raises:
        UserError: the prompt cannot be read, or a number is outside its bounds.
    """
    check_prompt_tensor(prompt, model, block_size)
    beams = whole_number(beams, "beams", 1, 2**16)
    max_new_tokens = whole_number(max_new_tokens, "max_new_tokens", 0, 2**31)
    if not abs(length_penalty) <= 100:
        raise UserError(f"length_penalty {show(length_penalty)}: from -100 to 100")
    device, make_cache = prompt.device, getattr(model, "make_cache", None)
    cache = make_cache(1) if make_cache is not None else None
    ends = torch.tensor(sorted(end_ids), dtype=torch.int64, device=device)
    ids = prompt[None]  # (R, S): the running texts; one at first, later up to `beams`
    sums = torch.zeros(1, device=device)  # (R,) log-probabilities
    finished: list[tuple[list[int], float]] = []
    for length in range(1, max_new_tokens + 1):
        totals = sums[:, None] + read_on(model, ids, cache, block_size).log_softmax(dim=-1)  # (R, V)
        # So many that `beams` of them go on even if all others end.
        sums, places = totals.flatten().topk(min(beams * (1 + len(ends)), totals.numel()))
        rows, tokens = places // totals.shape[1], places % totals.shape[1]
        ids = torch.cat((ids[rows], tokens[:, None]), dim=1)
        is_over = torch.isin(tokens, ends) if length < max_new_tokens else torch.ones_like(tokens, dtype=torch.bool)
        for text, total, over in zip(ids[:beams, len(prompt) :], sums, is_over, strict=False):
            if over and total.isfinite():
                finished.append((text.tolist(), float(total) / length**length_penalty))
        finished = sorted(finished, key=lambda text: text[1], reverse=True)[:beams]
        going = (~is_over & sums.isfinite()).nonzero()[:beams, 0]
        # Sums only fall, so an unfinished text can at best keep its own, at the length that suits it best.
        longest = max_new_tokens if length_penalty > 0 else length + 1
        if len(going) == 0 or (
            len(finished) == beams and finished[-1][1] >= float(sums[going[0]]) / longest**length_penalty
        ):
            break
        ids, sums = ids[going], sums[going]
        if cache is not None:
            cache.select(rows[going])
    return finished


def read_on(model: nn.Module, ids: Tensor, cache: KVCache | None, block_size: int) -> Tensor:
    """The logits of the next token, (R, V) float32, for texts (R, S) of which the cache has read all but the newest.

    Once a text is longer than the block, the model looks at its last half, and at what comes, until that is a block.
    """
    cut = block_size + 1 - max(1, block_size // 2)  # so many tokens go each time
    start = -(-max(0, ids.shape[1] - block_size) // cut) * cut
    if cache is None:
        logits: Tensor = model(ids[:, start:])
    else:
        if cache.length == block_size:
            cache.clear()
        logits = model(ids[:, start + cache.length :], cache)
    return logits[:, -1].float()
