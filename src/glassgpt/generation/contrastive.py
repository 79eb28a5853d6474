"""Contrastive search: likely tokens that do not make the text go round in circles."""

from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional as F

from glassgpt.errors import UserError, show
from glassgpt.generation.arguments import check_prompt_tensor, whole_number
from glassgpt.generation.beam import read_on
from glassgpt.model.gpt import GPT


@torch.inference_mode()
def contrastive_search(
    model: GPT,
    prompt: Tensor,
    *,
    candidates: int = 4,
    penalty: float = 0.6,
    max_new_tokens: int,
    end_ids: Collection[int] = (),
    block_size: int,
) -> list[int]:
    """Continue a prompt, without chance, and without the repetitions of greedy writing (Su et al., 2022).

    Of the likeliest tokens, take the one of highest (1 - penalty) * probability - penalty * likeness, its likeness
    being the highest cosine between what the model makes of it and what it made of a token before it. That is seen in
    the last norm's output, for which every candidate is read: one step reads `candidates` rows.

    Args:
        model: in evaluation mode.
        prompt: (T,) int64, 1 <= T <= block_size.
        candidates: how many of the likeliest tokens to try (k in the paper).
        penalty: what likeness costs, from 0, which is greedy, to 1 (alpha in the paper).
        max_new_tokens: the most tokens to write.
        end_ids: tokens that end the text. The one that did is the last of it.
        block_size: the most tokens that the model can look at. A longer text is cropped to its last half, as always,
            and compared with that alone.

    Returns:
        The new ids.

    Raises:
        UserError: the prompt cannot be read, a number is outside its bounds, or the model is no GPT.
    """
    if not isinstance(model, GPT):
        raise UserError(f"contrastive search: takes a GPT, not {show(type(model).__name__)}")
    check_prompt_tensor(prompt, model, block_size)
    candidates = whole_number(candidates, "candidates", 1, 2**16)
    max_new_tokens = whole_number(max_new_tokens, "max_new_tokens", 0, 2**31)
    if not 0 <= penalty <= 1:
        raise UserError(f"penalty {show(penalty)}: from 0 to 1")
    outputs: list[Tensor] = []
    hook = model.final_norm.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        cache = model.make_cache(1)
        ids = prompt[None]
        logits = read_on(model, ids, cache, block_size)  # (1, V)
        before = F.normalize(outputs.pop()[0].float(), dim=-1)  # (S, C): what was made of the tokens so far
        for _ in range(max_new_tokens):
            probabilities, tokens = logits[0].softmax(dim=-1).topk(min(candidates, logits.shape[1]))  # (R,)
            cache.select(torch.zeros_like(tokens))
            ids = torch.cat((ids.expand(len(tokens), -1), tokens[:, None]), dim=1)  # (R, S)
            logits = read_on(model, ids, cache, block_size)
            made = F.normalize(outputs.pop().float(), dim=-1)  # (R, T, C); T is 1, or all of the text was read again
            if made.shape[1] == cache.length:
                before = made[0, :-1]
            new = made[:, -1]  # (R, C)
            likeness = (new @ before.T).amax(dim=-1) if len(before) else torch.zeros_like(probabilities)
            best = ((1 - penalty) * probabilities - penalty * likeness).argmax()[None]
            ids, logits, before = ids[best], logits[best], torch.cat((before, new[best]))
            cache.select(best)
            if int(ids[0, -1]) in end_ids:
                break
    finally:
        hook.remove()
    return [int(token) for token in ids[0, len(prompt) :]]
