"""How well a model predicts a text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.data.batches import Windows, as_token_array
from glassgpt.data.text import read_text
from glassgpt.errors import UserError
from glassgpt.runs import Run
from glassgpt.tokenizers.utf8 import encode_utf8


def summed_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over all tokens: logits (B, T, V), targets (B, T), computed in float32."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum")


@dataclass(frozen=True)
class Score:
    """What a model makes of a text.

    Attributes:
        loss: nats per token.
        tokens: how many tokens were predicted.
    """

    loss: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """As if it chose among so many tokens equally."""
        return math.exp(min(self.loss, 700.0))

    def bits_per_byte(self, text_bytes: int) -> float:
        """The same loss per byte of the text that the tokens stand for: comparable between tokenizers."""
        return self.loss * self.tokens / math.log(2) / text_bytes


@torch.inference_mode()
def evaluate(model: nn.Module, windows: Windows, device: torch.device) -> Score:
    """The loss over all windows, in float32, with dropout off. It draws no random number, so it disturbs nothing."""
    was_training = model.training
    model.eval()
    total = torch.zeros((), dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
    for inputs, targets in windows:
        total += summed_loss(model(inputs.to(device)), targets.to(device))
    model.train(was_training)
    return Score(total.item() / windows.tokens, windows.tokens)


def evaluation_batch(block_size: int, vocab_size: int) -> int:
    """How many windows to evaluate at once: about 8,192 tokens, fewer where their logits would pass 256 MB."""
    return max(1, min(8192, 2**26 // vocab_size) // block_size)


def evaluate_run(run: Run, sources: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure a run's model on its own validation split, or on the whole of another text.

    Returns:
        `loss` in nats per token, `perplexity`, `bits_per_byte`, `tokens` and `bytes` that were predicted, and which
        `text` it was.

    Raises:
        UserError: the text cannot be read or tokenized, or the run has no validation split.
    """
    if sources:
        text, name = read_text(sources), ", ".join(sources)
    else:
        _, text = run.folder.read_split(run.recipe)
        name = "its validation split"
        if not text:
            raise UserError(f"{run.folder.path}: trained on all of its text: say which text with --data")
    ids = run.tokenizer.encode(text)
    vocab_size = run.recipe.model.vocabulary
    batch_size = evaluation_batch(run.block_size, vocab_size)
    windows = Windows(as_token_array(ids, vocab_size), run.block_size, batch_size)
    score = evaluate(run.model, windows, next(run.model.parameters()).device)
    # Of the text itself, less its first token: what <unk> stands for has another length than its name.
    whole, first = encode_utf8(text), run.tokenizer.decode_bytes(ids[:1])
    predicted_bytes = len(whole) - len(first if whole.startswith(first) else encode_utf8(text[0]))
    return {
        "loss": score.loss,
        "perplexity": score.perplexity,
        "bits_per_byte": score.bits_per_byte(predicted_bytes),
        "tokens": score.tokens,
        "bytes": predicted_bytes,
        "text": name,
    }
