"""All that is looked at of one model and one text, worked out once for page, pictures and tables."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glassgpt.inspection.attention import HeadStatistics, attention_maps, head_statistics
from glassgpt.inspection.capture import as_gpt, read
from glassgpt.inspection.embeddings import Projection, position_similarity, project
from glassgpt.inspection.labels import token_labels
from glassgpt.inspection.lens import Lens, logit_lens
from glassgpt.inspection.probabilities import TokenProbabilities, token_probabilities
from glassgpt.inspection.sampling import Effect, sampling_effects
from glassgpt.tokenizers import Tokenizer


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
        embedding: the token embeddings in two directions, (V, 2).
        positions: how alike the text's positions are, (T, T); None where the model has none.
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
    positions: Tensor | None

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
    attention = attention_maps(model, ids)
    similarity = position_similarity(model)
    return Findings(
        title=title,
        ids=ids,
        labels=token_labels(tokenizer, ids),
        vocabulary=token_labels(tokenizer, range(model.config.vocabulary)),
        parameters=sum(weight.numel() for weight in model.parameters()),
        attention=attention,
        heads=head_statistics(attention, torch.tensor(ids)),
        lens=logit_lens(model, ids),
        probabilities=token_probabilities(model, ids),
        effects=sampling_effects(read(model, ids)[0, -1], ids=ids),
        embedding=project(model.token_embedding.weight),
        positions=None if similarity is None else similarity[: len(ids), : len(ids)],
    )
