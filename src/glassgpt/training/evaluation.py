"""How well a model predicts a text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glassgpt.data.batches import Windows
from glassgpt.data.opening import open_tokens
from glassgpt.data.tokens import TokenFolder, Tokens, is_token_folder
from glassgpt.errors import UserError
from glassgpt.model.modes import evaluating
from glassgpt.recipes import Recipe
from glassgpt.runs import Run
from glassgpt.training.loss import summed_loss
from glassgpt.waiting import begin_work


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


@torch.inference_mode()
def evaluate(model: nn.Module, windows: Windows, device: torch.device) -> Score:
    """The loss over all windows, in float32, with dropout off. It draws no random number, so it disturbs nothing."""
    total = torch.zeros((), dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
    begin_work(device)
    with evaluating(model):
        for inputs, targets in windows:
            total += summed_loss(model(inputs.to(device)), targets.to(device))
    return Score(total.item() / windows.tokens, windows.tokens)


def evaluate_run(run: Run, sources: Sequence[str] | None = None, *, stdin: Path | None = None) -> dict[str, Any]:
    """Measure a run's model on its own validation split, or on another text.

    Args:
        run: a run.
        sources: another text, whole; of a folder that was prepared, the validation split, if it has one.
        stdin: the file that holds what came from standard input.

    Returns:
        `loss` in nats per token, `perplexity`, `bits_per_byte`, `tokens` and `bytes` that were predicted, and which
        `text` it was. Bytes are those of the text itself, and what spelling out unknown-tokens takes is in
        `bits_per_byte`: see `data.tokens.Measure`.

    Raises:
        UserError: the text cannot be read or tokenized, or the run has no validation split.
    """
    data = run.recipe.data
    if not sources:
        split, name = run.folder.open_tokens(run.recipe, run.tokenizer).split("val"), "its validation split"
        if not len(split.ids):
            raise UserError(f"{run.folder.path}: trained on all of its text: say which text with --data")
    elif any(map(is_token_folder, sources)):
        prepared = next(source for source in sources if is_token_folder(source))
        kept = TokenFolder(Path(prepared).expanduser()).val_fraction
        data = data.replace(source=list(sources), sha256=None, val_fraction=kept)
        split = open_tokens(data, run.tokenizer).split("val" if kept else "train")
        name = prepared + (", validation split" if kept else "")
    else:
        data = data.replace(source=list(sources), sha256=None, val_fraction=0.0)
        split, name = open_tokens(data, run.tokenizer, stdin=stdin).split("train"), ", ".join(sources)
    windows = evaluation_windows(split, run.recipe)
    score = evaluate(run.model, windows, next(run.model.parameters()).device)
    measure = split.measure(within_documents=not data.cross_documents)
    return {
        "loss": score.loss,
        "perplexity": score.perplexity,
        "bits_per_byte": measure.bits_per_byte(score.loss),
        "tokens": score.tokens,
        "bytes": measure.bytes,
        "text": name,
    }


def evaluation_windows(split: Tokens, recipe: Recipe, max_tokens: int | None = None) -> Windows:
    """A split in windows of a recipe's model, so many at once that their logits stay below 256 MB.

    Raises:
        UserError: it has fewer than two tokens.
    """
    block_size = recipe.model.block_size
    documents = None if recipe.data.cross_documents else split.documents
    batch_size = max(1, min(8192, 2**26 // recipe.model.vocabulary) // block_size)
    return Windows(split.ids, block_size, batch_size, max_tokens=max_tokens, documents=documents)
