"""How likely a model finds each token of a text."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.errors import UserError
from glassgpt.generation.sampling import not_a_number
from glassgpt.inspection.capture import Ids, as_gpt, as_text, read


@dataclass(frozen=True)
class TokenProbabilities:
    """What a model made of each token but the first: row t - 1 is about the token at position t.

    Attributes:
        probability: that the model gave it, (T - 1,).
        rank: one more than the number of likelier tokens: 1 if there is none, (T - 1,) int64.
        surprise: -log₂ of its probability, in bits, (T - 1,).
        entropy: the surprise that was to be expected, in bits, (T - 1,).
        top_ids: the likeliest tokens in its place, (T - 1, K) int64, the likeliest first.
        top_probabilities: theirs, (T - 1, K).
    """

    probability: Tensor
    rank: Tensor
    surprise: Tensor
    entropy: Tensor
    top_ids: Tensor
    top_probabilities: Tensor


@dataclass(frozen=True)
class Prediction:
    """What logits say, row by row: see `Lens`; `next_logprob` is the logarithm of `next_probability`."""

    top_ids: Tensor
    top_probabilities: Tensor
    next_rank: Tensor
    next_probability: Tensor
    next_logprob: Tensor
    entropy: Tensor


def predictions(logits: Tensor, next_ids: Tensor, top: int) -> Prediction:
    """Figures of logits (T, V), on the CPU.

    Args:
        logits: on any device, in any number format.
        next_ids: the tokens that really came next, for as many rows as they are known, (T,) or fewer. Of the other
            rows, rank and probability are 0.
        top: K, how many of the likeliest tokens to keep; V if it is more.

    Raises:
        UserError: the logits are not numbers, or `top` is below 1.
    """
    if top < 1:
        raise UserError(f"top: at least 1, not {top}")
    logits = logits.float().cpu()
    logprobs = logits.log_softmax(dim=-1)  # (T, V)
    if not math.isfinite(logprobs.sum()):  # (one that is no number makes the sum one, too)
        raise not_a_number()
    probabilities = logprobs.exp()
    top_probabilities, top_ids = probabilities.topk(min(top, logits.shape[-1]))
    unknown = (0, len(logits) - len(next_ids))
    known = logprobs[: len(next_ids)]
    true = known.gather(-1, next_ids[:, None])  # (known rows, 1)
    return Prediction(
        top_ids=top_ids,
        top_probabilities=top_probabilities,
        next_rank=F.pad((known > true).sum(dim=-1) + 1, unknown),
        next_probability=F.pad(true[:, 0].exp(), unknown),
        next_logprob=F.pad(true[:, 0], unknown, value=-math.inf),
        entropy=-(probabilities * logprobs).sum(dim=-1),
    )


def token_probabilities(model: nn.Module, ids: Ids, top: int = 5) -> TokenProbabilities:
    """Each token's probability after those before it.

    A text longer than the block is read in windows of a block that overlap by half, and each token is taken from the
    first window it stands in: so it is judged by at least half a block before it, or by all that there is.

    Args:
        model: a GPT.
        ids: the text, (T,). Of a single token nothing can be said: all rows are missing.
        top: K, how many of the likeliest tokens to keep.

    Raises:
        UserError: an empty text, an id that the model does not know, or an output that is not a number.
    """
    config = as_gpt(model).config
    text = as_text(ids)
    block, step = config.block_size, max(1, config.block_size // 2)
    parts: list[Prediction] = []
    done = 0  # tokens that have been judged, the first left out
    for begin in range(0, max(1, len(text) - 1 - block + step), step):
        logits = read(model, text[begin : begin + block])[0]  # row i is about text[begin + i + 1]
        end = min(begin + block, len(text) - 1)
        parts.append(predictions(logits[done - begin : end - begin], text[done + 1 : end + 1], top))
        done = end
    return _joined(parts)


def probabilities_of(logits: Tensor, ids: Ids, top: int = 5) -> TokenProbabilities:
    """The same, of a text that was read already: its logits (T, V)."""
    text = as_text(ids)
    return _joined([predictions(logits[:-1], text[1:], top)])


def _joined(parts: list[Prediction]) -> TokenProbabilities:
    logprob = torch.cat([part.next_logprob for part in parts])
    return TokenProbabilities(
        probability=logprob.exp(),
        rank=torch.cat([part.next_rank for part in parts]),
        surprise=-logprob / math.log(2),
        entropy=torch.cat([part.entropy for part in parts]) / math.log(2),
        top_ids=torch.cat([part.top_ids for part in parts]),
        top_probabilities=torch.cat([part.top_probabilities for part in parts]),
    )
