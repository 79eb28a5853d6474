"""What a few tokens in a row mean together, looked up instead of worked out."""

import torch
from torch import Tensor, nn

from glassgpt.model.config import ModelConfig

PRIME = 2**31 - 1  # products of two numbers below it fit 64 bits, so that nothing overflows, on any device
MULTIPLIER = 1_327_217_885  # 2³¹ divided by the golden ratio: neighbours come far apart (Knuth, volume 3, 6.4)


class NgramEmbedding(nn.Module):
    """Vectors for the last 2, 3, …, n tokens taken as one, added up: a table for each length.

    A block needs attention to learn which letters stand together; a table knows it after having seen them once. In a
    short run nothing else is worth as much (docs/performance.md). Where there are more combinations than rows, rows are
    shared by a hash. The idea: "Byte Latent Transformer" (Pagnoni et al., 2024), "Over-Tokenized Transformer" (Huang et
    al., 2025).

    Every row begins at zero, so a new model is the same as without them.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.base = config.vocabulary + 1  # one more for "nothing stood there"
        self.reach = config.ngrams - 1  # tokens that are looked back at
        self.rows = [config.ngram_rows(length) for length in range(2, config.ngrams + 1)]
        self.tables = nn.ModuleList(nn.Embedding(rows, config.n_embd) for rows in self.rows)

    def nothing(self, rows: int, device: torch.device) -> Tensor:
        """What stands before the beginning, (B, n - 1)."""
        return torch.full((rows, self.reach), self.base - 1, device=device)

    def forward(self, ids: Tensor, before: Tensor) -> Tensor:
        """Ids (B, T), and the n - 1 before them (B, n - 1), to vectors (B, T, C)."""
        T = ids.shape[1]
        known = torch.cat((before, ids), dim=1)  # (B, n - 1 + T)
        number = known  # of the tokens that end here: digits to the base `base`, as long as it is below the prime
        total: Tensor | None = None
        for length, (rows, table) in enumerate(zip(self.rows, self.tables, strict=True), start=2):
            number = (number[:, :-1] * self.base + known[:, length - 1 :]) % PRIME
            row = number[:, -T:]
            if self.base**length > rows:
                row = row * MULTIPLIER % PRIME % rows
            vectors = table(row)  # (B, T, C)
            total = vectors if total is None else total + vectors
        assert total is not None
        return total
