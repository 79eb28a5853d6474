"""Matrices read once for a few tokens: where decoding's time goes, and how each of its ways reads them.

A token takes every weight of the model once, so decoding is as fast as weights come from memory. On a CPU, torch's
product of a matrix with a single vector reaches a third of that; each class here is a linear layer that does better.
"""

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.model.attention import CausalSelfAttention
from glassgpt.model.gpt import GPT

WORTH_PACKING = 2**17  # numbers in a matrix: smaller ones stay in the processor's cache anyway
STREAMS = 4  # places at which a compiled product reads a matrix: 1 is a tenth to a quarter slower, 16 as slow


class Packed(nn.Module):
    """In oneDNN's own layout, made once: on a CPU 2 to 5 times as fast as `F.linear` for a few rows, 1.2 for 512."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), 16)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """(…, K) to (…, N)."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return out

    @staticmethod
    def suits(linear: nn.Linear) -> bool:
        """Whether it is possible, and worth the memory, which is that of the weights once more."""
        weight = linear.weight
        is_plain = weight.device.type == "cpu" and weight.dtype is torch.float32
        return is_plain and weight.numel() >= WORTH_PACKING and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class Int8(nn.Module):
    """8-bit weights, each row of the matrix with a scale of its own: a quarter of the memory to read.

    The largest weight of a row becomes 127 or -127. Activations stay as they are.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(dim=1) / 127  # (N,)
        self.register_buffer("weight", (weight / scale.clamp(min=1e-12)[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """(…, K) to (…, N)."""
        out = F.linear(x, self.weight.to(x.dtype)) * self.scale.to(x.dtype)
        return out if self.bias is None else out + self.bias


class Int8Steps(nn.Module):
    """The same weights for a few rows on a CPU, as they are: for 1 to 16 rows in a quarter to two thirds of the time.

    Activations and products are rounded to bfloat16: torch's kernel for float32 is a slow one.
    """

    MULTIPLE: ClassVar[int] = 16
    """Of the width that goes in: with another one, torch's kernel reads beyond the matrix, and may crash."""

    weight: Tensor
    scale: Tensor

    @classmethod
    def suits(cls, linear: object) -> bool:
        """Whether a layer can be computed so."""
        return isinstance(linear, Int8) and linear.weight.shape[1] % cls.MULTIPLE == 0

    def __init__(self, linear: Int8):
        super().__init__()
        self.register_buffer("weight", linear.weight)
        self.register_buffer("scale", linear.scale.to(torch.bfloat16))
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """(…, K) to (…, N)."""
        rows = x.flatten(0, -2).to(torch.bfloat16)
        out = torch._weight_int8pack_mm(rows, self.weight, self.scale).to(x.dtype).view(*x.shape[:-1], -1)
        return out if self.bias is None else out + self.bias


class OneRow(nn.Module):
    """A matrix times one vector, written out as sums: what a compiler makes a loop over memory from.

    Only to be compiled: run as it stands, it would make a matrix of products first.
    """

    weight: Tensor
    scale: Tensor | None

    def __init__(self, linear: "nn.Linear | Int8"):
        super().__init__()
        self.register_buffer("weight", linear.weight.detach())
        self.register_buffer("scale", linear.scale if isinstance(linear, Int8) else None)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """(1, 1, K) to (1, 1, N)."""
        # as_strided changes nothing, but makes the compiler finish x first: it would work it out again for every row.
        row = x.reshape(-1).as_strided(self.weight.shape[1:], (1,))
        # Rows of four parts of the matrix in one loop: memory is read faster from four places than from one.
        parts = STREAMS if len(self.weight) % STREAMS == 0 else 1
        out = torch.cat([(part * row).sum(dim=-1) for part in self.weight.chunk(parts)])  # (N,)
        out = out if self.scale is None else out * self.scale
        out = out if self.bias is None else out + self.bias
        return out.view(1, 1, -1)


def one_query_attention(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False, dropout: float = 0.0
) -> Tensor:
    """`manual_attention` for one query a row, written out as sums for the compiler, like `OneRow`."""
    assert mask is not None and not causal and not dropout, "for decoding only"
    B, H, _, D = q.shape
    shared = q.view(B, k.shape[1], -1, 1, D)  # (B, G, H / G, 1, D): the query heads of each key head
    scores = (shared * k[:, :, None]).sum(dim=-1) * D**-0.5  # (B, G, H / G, n)
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    mean = (weights[..., None] * v[:, :, None]).sum(dim=-2) / weights.sum(dim=-1, keepdim=True)
    out: Tensor = mean.view(B, H, 1, D)  # divided here, not each weight: fewer divisions, by the length over the width
    return out


def with_linears(model: GPT, make: Callable[[Any], nn.Module | None], attend: Any = None) -> GPT:
    """A model with the same weights in the same memory, and other modules in place of its `torch.nn.Linear`s.

    Args:
        model: stays as it is.
        make: gives what stands in place of a linear layer, or None to leave it.
        attend: in place of the attention function, if given.
    """
    tensors = (*model.parameters(), *model.buffers())
    twin = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    if twin.lm_head is None:  # a tied output layer is a linear one with the embedding's weights
        head = nn.Linear(1, 1, bias=False, device="meta")
        head.weight = twin.token_embedding.weight
        twin.lm_head = head
    for name, module in list(twin.named_modules()):
        if isinstance(module, (nn.Linear, Int8)) and (new := make(module)) is not None:
            parent, _, last = name.rpartition(".")
            setattr(twin.get_submodule(parent), last, new)
        elif attend is not None and isinstance(module, CausalSelfAttention):
            module.attend = attend
    return twin
