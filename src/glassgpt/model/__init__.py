"""The transformer itself, from tensor operations, `nn.Linear` and `nn.Embedding`.

Axis letters, used everywhere: B batch, T time (query positions), S source positions (keys), C model width, H heads,
G key/value heads, D head width, F feed-forward width, V vocabulary, L layers.
"""

from typing import TYPE_CHECKING

from glassgpt.model.config import ModelConfig

if TYPE_CHECKING:
    from glassgpt.model.bigram import Bigram
    from glassgpt.model.gpt import GPT

__all__ = ["ModelConfig", "make_model"]


def make_model(config: ModelConfig) -> "GPT | Bigram":
    """A new model of the kind that the configuration asks for, with its first weights."""
    if config.kind == "bigram":
        from glassgpt.model.bigram import Bigram

        return Bigram(config)
    from glassgpt.model.gpt import GPT

    return GPT(config)
