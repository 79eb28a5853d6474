"""All that is looked at of one model and one text, worked out once for page, pictures and tables."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glassgpt.inspection.attention import HeadStatistics, head_statistics
from glassgpt.inspection.capture import as_gpt, capture
from glassgpt.inspection.embeddings import (
    Projection,
    neighbours_of_each,
    position_similarity,
    position_vectors,
    project,
)
from glassgpt.inspection.labels import token_labels
from glassgpt.inspection.lens import Lens, lens_of
from glassgpt.inspection.probabilities import TokenProbabilities, probabilities_of
from glassgpt.inspection.sampling import Effect, sampling_effects
from glassgpt.tokenizers import Tokenizer

COMPONENTS = 8
"""In how many principal directions embeddings are looked at: two are drawn, and each explains a share."""


@dataclass(frozen=True)
class Findings:
    """What there is to see.

    Attributes:
        title: what is looked at, in a few words.
        ids: the text's tokens, T of them.
        labels: theirs, as they can be shown.
        vocabulary: the labels of all tokens, those first that the tokenizer knows, (V,).
        parameters: how many the model has.
        attention: weights (L, H, T, T).
        heads: their figures, layer by layer.
        lens, probabilities, effects: see the rooms they come from; the effects are on what follows the text.
        embedding: the token embeddings in the directions in which they differ most, (V, COMPONENTS).
        neighbours: of each of the text's tokens, by id: those whose embeddings are nearest, and their cosines.
        positions: the vectors of all positions, likewise, (S, COMPONENTS); None where the model has none.
        similarity: how alike the text's positions are, (T, T); None where the model has none.
    """

    title: str
    ids: list[int]
    labels: list[str]
    vocabulary: list[str]
    parameters: int
    attention: Tensor
    heads: list[HeadStatistics]
    lens: Lens
    probabilities: TokenProbabilities
    effects: list[Effect]
    embedding: Projection
    neighbours: dict[int, list[tuple[int, float]]]
    positions: Projection | None
    similarity: Tensor | None

    @property
    def about(self) -> str:
        """Model and text in one sentence."""
        L, H, T, _ = self.attention.shape
        bits = f", {self.probabilities.surprise.mean():.2f} bits of surprise each" if T > 1 else ""
        return (
            f"{self.parameters:,} parameters in {L} {'layer' if L == 1 else 'layers'} of {H} "
            f"{'head' if H == 1 else 'heads'}, a vocabulary of {len(self.vocabulary):,}; "
            f"{T} {'token' if T == 1 else 'tokens'} of text{bits}"
        )


def look(model: nn.Module, tokenizer: Tokenizer, ids: list[int], title: str) -> Findings:
    """Let a model read a text, and take down what it computes.

    Args:
        model: a GPT.
        tokenizer: for the labels.
        ids: the text, at least one token, at most a block.
        title: what this is.

    Raises:
        UserError: the model is no GPT, cannot read the text, or answers with what is no number.
    """
    model = as_gpt(model)
    captured = capture(model, ids, ["embedding", "blocks.*.weights", "blocks.*.residual", "logits"])
    attention = torch.cat([captured[f"blocks.{layer}.weights"] for layer in range(model.config.n_layer)])
    logits = captured["logits"][0]
    table = model.token_embedding.weight
    vectors, similarity = position_vectors(model), position_similarity(model)
    distinct = sorted(set(ids))
    return Findings(
        title=title,
        ids=ids,
        labels=token_labels(tokenizer, ids),
        vocabulary=token_labels(tokenizer, range(model.config.vocabulary)),
        parameters=sum(weight.numel() for weight in model.parameters()),
        attention=attention,
        heads=head_statistics(attention, torch.tensor(ids)),
        lens=lens_of(model, captured, ids),
        probabilities=probabilities_of(logits, ids),
        effects=sampling_effects(logits[-1], ids=ids),
        embedding=project(table, COMPONENTS),
        neighbours=dict(zip(distinct, neighbours_of_each(table, distinct), strict=True)),
        positions=None if vectors is None else project(vectors, COMPONENTS),
        similarity=None if similarity is None else similarity[: len(ids), : len(ids)],
    )
