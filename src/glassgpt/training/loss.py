"""What training makes small: the cross-entropy of the next token, also where the vocabulary is large."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def summed_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over all tokens: logits (B, T, V), targets (B, T), computed in float32.

    With a vocabulary of 50,257 and a context of 1,024, logits take 206 MB, and their gradient as much. torch's own way
    adds the logarithm of their softmax, the gradient of that and, with mixed precision, the logits in float32, of that
    size each. So large ones are gone through some rows at a time.
    """
    rows, wanted = logits.flatten(0, 1), targets.flatten()  # (N, V), (N,)
    if rows.numel() <= _numbers_at_once(rows):
        return F.cross_entropy(rows.float(), wanted, reduction="sum")
    loss: Tensor = _LossInParts.apply(rows, wanted)  # type: ignore[no-untyped-call]
    return loss


def _numbers_at_once(rows: Tensor) -> int:
    """How many logits to go through at a time: on a CPU as many as stay in its cache, elsewhere enough to fill it."""
    return 2**20 if rows.device.type == "cpu" else 2**26


class _LossInParts(torch.autograd.Function):
    """The same sum, holding no more than the logits and, going backward, their gradient, softmax(logits) - one-hot."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits (N, V) in any number format, targets (N,)."""
        N, V = logits.shape
        at_once = max(1, _numbers_at_once(logits) // V)
        log_sums = torch.cat([part.float().logsumexp(-1) for part in torch.split(logits, at_once)])  # (N,)
        ctx.save_for_backward(logits, targets, log_sums)
        ctx.at_once = at_once
        return (log_sums - logits[torch.arange(N, device=logits.device), targets]).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gain: Tensor) -> tuple[Tensor, None]:
        """The gradient (N, V), in the logits' own format."""
        logits, targets, log_sums = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        parts = (torch.split(tensor, ctx.at_once) for tensor in (logits, targets, log_sums, gradient))
        for some, wanted, log_sum, out in zip(*parts, strict=True):
            chances = (some - log_sum[:, None]).exp_()  # softmax(logits), in float32 as log_sum is
            chances[torch.arange(len(some), device=some.device), wanted] -= 1
            out.copy_(chances.mul_(gain))
        return gradient, None
