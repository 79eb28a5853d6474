"""AdamW, and how its learning rate goes."""

import math

import torch
from torch import nn

from glassgpt.recipes import TrainingConfig


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, 2017), one kernel for all parameters where the device has one.

    Weight decay is for matrices, embeddings included: biases and gains (one axis) are left alone, as in nanoGPT.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    settings = {"lr": config.learning_rate, "betas": (config.beta1, config.beta2), "eps": config.eps}
    try:
        return torch.optim.AdamW(groups, fused=True, **settings)  # type: ignore[arg-type]
    except RuntimeError:  # this device, or this number format, has no fused kernel
        return torch.optim.AdamW(groups, **settings)  # type: ignore[arg-type]


def learning_rate(step: int, total_steps: int, config: TrainingConfig) -> float:
    """The learning rate of step `step` (from 0) of `total_steps`: a pure function.

    It rises in a line over the warm-up, reaching its peak in the first step after it, then follows the schedule, which
    would reach `min_learning_rate` at step `total_steps`.
    """
    peak, lowest = config.learning_rate, config.min_learning_rate
    if step < config.warmup_steps:
        return peak * (step + 1) / (config.warmup_steps + 1)
    begin = config.warmup_steps
    if config.schedule == "wsd":
        begin = max(begin, round(total_steps * (1 - config.decay_fraction)))
    if config.schedule == "constant" or step < begin:
        return peak
    progress = min(1.0, (step - begin) / max(1, total_steps - begin))
    share = 0.5 * (1 + math.cos(math.pi * progress)) if config.schedule == "cosine" else 1 - progress
    return lowest + (peak - lowest) * share
