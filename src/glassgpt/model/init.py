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
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear | nn.Embedding):
            continue
        into_the_stream = name.endswith((".attn.proj", ".mlp.proj"))
        if name.startswith("ngram_embedding.") or (into_the_stream and config.zero_init):
            nn.init.zeros_(module.weight)
        else:
            std = config.init_std / math.sqrt(2 * config.n_layer) if into_the_stream else config.init_std
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
