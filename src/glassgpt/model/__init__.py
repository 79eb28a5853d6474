"""The transformer itself, from tensor operations, `nn.Linear` and `nn.Embedding`.

Axis letters, used everywhere: B batch, T time (query positions), S source positions (keys), C model width, H heads,
G key/value heads, D head width, F feed-forward width, V vocabulary, L layers.
"""

from typing import TYPE_CHECKING

from glassgpt.errors import UserError, show
from glassgpt.model.config import ModelConfig
from glassgpt.model.sizing import require_memory, sizes, tables

if TYPE_CHECKING:
    from glassgpt.model.bigram import Bigram
    from glassgpt.model.gpt import GPT

__all__ = ["ModelConfig", "make_model"]


def make_model(config: ModelConfig) -> "GPT | Bigram":
    """A new model of the kind that the configuration asks for, with its first weights.

    Raises:
        UserError: the vocabulary's size is not known yet, or no memory here holds such a model.
    """
    import torch

    if not isinstance(config, ModelConfig):
        raise UserError(f"a ModelConfig is needed, not {show(config)}")
    size = sizes(config)
    if torch.get_default_device().type != "meta":  # where nothing takes any memory
        require_memory(size.weight_bytes + tables(config), f"a model of {size.parameters:,} parameters")
    if config.kind == "bigram":
        from glassgpt.model.bigram import Bigram

        return Bigram(config)
    from glassgpt.model.gpt import GPT

    return GPT(config)
