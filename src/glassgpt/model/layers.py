"""The MLP and the block: what a transformer repeats."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.model.attention import CausalSelfAttention
from glassgpt.model.cache import KVCache, RowsCache
from glassgpt.model.config import ModelConfig
from glassgpt.model.norms import make_norm
from glassgpt.model.positions import Rotation


def relu2(x: Tensor) -> Tensor:
    """max(x, 0)² (Primer, So et al., 2021)."""
    return F.relu(x).square()


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by the tanh approximation, which GPT-2 was trained with."""
    if torch.compiler.is_dynamo_compiling():
        # The same function, (1 + tanh u) / 2 being the sigmoid of 2u: compiled for a CPU, in a third of the time.
        return x * torch.sigmoid(math.sqrt(8 / math.pi) * x * (1 + 0.044715 * x * x))
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "relu2": relu2,
    "swiglu": F.silu,
}


class MLP(nn.Module):
    """Widen, bend, narrow: proj(act(fc(x))). With swiglu, proj(silu(gate(x)) · fc(x)) (Shazeer, 2020)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.fc = nn.Linear(config.n_embd, config.inner_width, bias=config.bias)
        gated = config.activation == "swiglu"
        self.gate = nn.Linear(config.n_embd, config.inner_width, bias=config.bias) if gated else None
        self.proj = nn.Linear(config.inner_width, config.n_embd, bias=config.bias)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C), each position by itself."""
        hidden = self.activation(self.fc(x)) if self.gate is None else self.activation(self.gate(x)) * self.fc(x)
        out: Tensor = self.proj(hidden)  # from (B, T, F)
        return out


class LayerScale(nn.Module):
    """A learned gain on each channel (CaiT, Touvron et al., 2021)."""

    def __init__(self, width: int, initial: float):
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return x * self.weight


class Block(nn.Module):
    """Attention, then the MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.norm_1 = make_norm(config)
        self.attn = CausalSelfAttention(config)
        self.norm_2 = make_norm(config)
        self.mlp = MLP(config)
        self.scale_1 = _scale(config)
        self.scale_2 = _scale(config)
        self.dropout = config.dropout_for("resid")
        self.pre_norm = config.norm_position == "pre"

    def forward(
        self, x: Tensor, layer: int, rotation: Rotation | None = None, cache: KVCache | RowsCache | None = None
    ) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        if self.pre_norm:
            x = x + self._drop(self.scale_1(self.attn(self.norm_1(x), layer, rotation, cache)))
            return x + self._drop(self.scale_2(self.mlp(self.norm_2(x))))
        x = self.norm_1(x + self._drop(self.scale_1(self.attn(x, layer, rotation, cache))))
        x = self.norm_2(x + self._drop(self.scale_2(self.mlp(x))))
        return x

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


def _scale(config: ModelConfig) -> nn.Module:
    return nn.Identity() if config.layer_scale is None else LayerScale(config.n_embd, config.layer_scale)
