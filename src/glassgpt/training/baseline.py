"""What a model has to beat: the next token told from the last one, by counting."""

from typing import Any

import torch
from numpy.typing import NDArray

from glassgpt.data.batches import Windows
from glassgpt.model.bigram import Bigram
from glassgpt.model.config import ModelConfig
from glassgpt.training.evaluation import Score, evaluate

LARGEST_VOCABULARY = 8192  # the table has a row and a column an entry: 256 MB of float32 at this size


def bigram_score(train_ids: NDArray[Any], windows: Windows, vocab_size: int) -> Score | None:
    """The bigram baseline's score, counted on the training text; None where its table would be too large."""
    if vocab_size > LARGEST_VOCABULARY:
        return None
    model = Bigram.counted(train_ids, ModelConfig(kind="bigram", vocab_size=vocab_size))
    return evaluate(model, windows, torch.device("cpu"))
