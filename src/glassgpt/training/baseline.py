"""What a model has to beat: the next token told from the last one, by counting."""

import numpy as np
from numpy.typing import NDArray

from glassgpt.data.batches import Windows
from glassgpt.training.evaluation import Score

MOST_TOKENS = 2**24  # of the training text, from its beginning: enough for a baseline, and bounded memory


def bigram_score(train_ids: NDArray[np.integer], windows: Windows, vocab_size: int) -> Score:
    """The score of the bigram model (`model.bigram.Bigram.counted`), from counts of pairs alone.

    Its table of V x V logits need not be made for that, so any vocabulary will do.

    Args:
        train_ids: the text that is counted; of a very long one, the beginning.
        windows: what is predicted.
        vocab_size: V; each pair counts once more than it was seen.
    """
    V = vocab_size
    seen = np.asarray(train_ids[:MOST_TOKENS], dtype=np.int64)
    pairs, pair_counts = np.unique(seen[:-1] * V + seen[1:], return_counts=True)
    first_counts = np.bincount(seen[:-1], minlength=V)
    total, tokens = 0.0, 0
    for inputs, targets in windows:
        first = inputs.numpy().ravel()
        wanted = first * V + targets.numpy().ravel()
        place = np.searchsorted(pairs, wanted).clip(max=len(pairs) - 1)
        counts = np.where(pairs[place] == wanted, pair_counts[place], 0)
        total -= np.log((counts + 1) / (first_counts[first] + V)).sum()
        tokens += len(wanted)
    return Score(float(total / tokens), tokens)
