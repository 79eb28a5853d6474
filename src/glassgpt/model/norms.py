"""Normalisation of a vector: to mean 0 and variance 1, or only to mean square 1."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.model.config import ModelConfig


class LayerNorm(nn.Module):
    """(x - mean) / √(variance + eps), times a gain, plus a bias if wanted (Ba et al., 2016)."""

    def __init__(self, width: int, eps: float, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Same shape; the last axis is normalised."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """x / √(mean of x² + eps), times a gain (Zhang and Sennrich, 2019)."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Same shape; the last axis is normalised."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)  # one kernel if the types agree


def make_norm(config: ModelConfig) -> LayerNorm | RMSNorm:
    """The norm that the configuration asks for, over the residual stream."""
    if config.norm == "layernorm":
        return LayerNorm(config.n_embd, config.norm_eps, config.bias)
    return RMSNorm(config.n_embd, config.norm_eps)


def make_head_norm(config: ModelConfig) -> LayerNorm | RMSNorm:
    """The same kind, over one head's queries or keys, without a bias."""
    if config.norm == "layernorm":
        return LayerNorm(config.head_width, config.norm_eps, bias=False)
    return RMSNorm(config.head_width, config.norm_eps)
