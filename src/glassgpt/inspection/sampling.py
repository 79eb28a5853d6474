"""What temperature, top-k, top-p and min-p make of one distribution."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glassgpt.generation.config import SamplingConfig
from glassgpt.generation.filters import filter_logits, penalise_repetition
from glassgpt.generation.sampling import GREEDY_BELOW, not_a_number

SETTINGS: Mapping[str, SamplingConfig] = {
    "as it is": SamplingConfig(temperature=1.0),
    "temperature 0.5": SamplingConfig(temperature=0.5),
    "temperature 1.5": SamplingConfig(temperature=1.5),
    "top-k 10": SamplingConfig(temperature=1.0, top_k=10),
    "top-p 0.9": SamplingConfig(temperature=1.0, top_p=0.9),
    "min-p 0.1": SamplingConfig(temperature=1.0, min_p=0.1),
}
"""One setting at a time, the others being off."""
LIKELIEST = 20
"""Of how many tokens page and table tell what settings make of them."""


@dataclass(frozen=True)
class Effect:
    """A distribution after some settings.

    Attributes:
        name: of the settings.
        probabilities: by which the next token is drawn, (V,).
        kept: how many tokens can still be drawn.
        entropy: how undecided it is, in bits.
    """

    name: str
    probabilities: Tensor
    kept: int
    entropy: float


def sampling_effects(
    logits: Tensor, settings: Mapping[str, SamplingConfig] = SETTINGS, *, ids: Sequence[int] = ()
) -> list[Effect]:
    """The distributions that settings make of the same logits, by the filters that generation uses.

    Args:
        logits: (V,), the model's.
        settings: by name.
        ids: the text so far, which a repetition penalty looks at.

    Raises:
        UserError: the logits are not numbers.
    """
    logits = logits.detach().float().cpu()[None]
    if not logits.isfinite().all():
        raise not_a_number()
    text = torch.as_tensor(ids, dtype=torch.int64)[None]
    return [_effect(name, logits, text, config) for name, config in settings.items()]


def _effect(name: str, logits: Tensor, ids: Tensor, config: SamplingConfig) -> Effect:
    if config.temperature < GREEDY_BELOW:  # no division: all for the likeliest
        likeliest = penalise_repetition(logits, ids, config.repetition_penalty)[0].argmax()
        probabilities = torch.zeros_like(logits[0]).index_fill(0, likeliest, 1.0)
        return Effect(name, probabilities, kept=1, entropy=0.0)
    kept = filter_logits(logits, ids, config)[0]
    probabilities = kept.double().softmax(dim=-1)
    bits = torch.special.entr(probabilities).sum().item() / math.log(2)
    return Effect(name, probabilities.float(), kept=int(kept.isfinite().sum()), entropy=bits)
