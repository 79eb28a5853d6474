"""The logit lens: what the model would say if it stopped after each block (nostalgebraist, 2020)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glassgpt.inspection.capture import Ids, as_gpt, as_text, capture
from glassgpt.inspection.probabilities import Prediction, predictions


@dataclass(frozen=True)
class Lens:
    """Predictions of the residual stream at R = L + 1 places: behind the embedding and behind each block.

    Attributes:
        layers: the places' names: `embedding`, `block 0`, …; the last one's prediction is the model's own.
        top_ids: the likeliest next tokens, (R, T, K) int64, the likeliest first.
        top_probabilities: theirs, (R, T, K).
        next_rank: the rank of the token that really comes next, (R, T) int64: 1 is the likeliest. 0 at the last
            position, where it is not known.
        next_probability: its probability, (R, T); 0 at the last position.
        entropy: how undecided the prediction is, in nats, (R, T).
    """

    layers: list[str]
    top_ids: Tensor
    top_probabilities: Tensor
    next_rank: Tensor
    next_probability: Tensor
    entropy: Tensor


def logit_lens(model: nn.Module, ids: Ids, top: int = 5) -> Lens:
    """Put each layer's residual stream through the model's last norm and output layer.

    Args:
        model: a GPT.
        ids: the text, (T,).
        top: K, how many of the likeliest tokens to keep.

    Raises:
        UserError: a text that the model cannot read, or an output that is not a number.
    """
    return lens_of(model, capture(model, ids, ["embedding", "blocks.*.residual"]), ids, top)


@torch.no_grad()
def lens_of(model: nn.Module, captured: Mapping[str, Tensor], ids: Ids, top: int = 5) -> Lens:
    """The same, of a text that was read already: `embedding` and each `blocks.i.residual` as they were captured."""
    model = as_gpt(model)
    streams = [captured["embedding"], *(captured[f"blocks.{layer}.residual"] for layer in range(model.config.n_layer))]
    weight = model.token_embedding.weight
    next_ids = as_text(ids)[1:]
    rows: list[Prediction] = []
    for stream in streams:  # one at a time: logits are far larger than all that a block computes
        logits = model.read_out(stream.to(weight.device, weight.dtype))
        rows.append(predictions(logits[0], next_ids, top))
    return Lens(
        layers=["embedding", *(f"block {layer}" for layer in range(model.config.n_layer))],
        top_ids=torch.stack([row.top_ids for row in rows]),
        top_probabilities=torch.stack([row.top_probabilities for row in rows]),
        next_rank=torch.stack([row.next_rank for row in rows]),
        next_probability=torch.stack([row.next_probability for row in rows]),
        entropy=torch.stack([row.entropy for row in rows]),
    )
