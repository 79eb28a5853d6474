"""All initialisation in one place."""

import math

from torch import nn

from glassgpt.model.config import ModelConfig


def initialise(model: nn.Module, config: ModelConfig) -> None:
    """Give every weight of a new model its first value.

    | what | value |
    |---|---|
    | embeddings, linear layers, untied output layer | Normal(0, `init_std`), as GPT-2 |
    | projections into the residual stream: `attn.proj`, `mlp.proj` | Normal(0, `init_std` / √(2·`n_layer`)) |
    | the same with `zero_init` | 0: every pre-norm block begins as the identity |
    | n-gram embeddings | 0: the model begins as if there were none |
    | biases | 0 |
    | norm gains | 1 |
    | LayerScale gains | `layer_scale` |

    The scaling by 1/√(2·n_layer) keeps the residual stream's variance the same whatever the depth, since 2·n_layer
    independent terms are added to it (Radford et al., 2019).
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=config.init_std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.startswith("ngram_embedding."):
            nn.init.zeros_(module.weight)
        if isinstance(module, nn.Linear) and name.endswith((".attn.proj", ".mlp.proj")):
            if config.zero_init:
                nn.init.zeros_(module.weight)
            else:
                nn.init.normal_(module.weight, std=config.init_std / math.sqrt(2 * config.n_layer))
