"""Small trainings that the checks share."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glassgpt.data.batches import Batches
from glassgpt.model import ModelConfig, make_model
from glassgpt.recipes import TrainingConfig
from glassgpt.training.events import Step
from glassgpt.training.trainer import Trainer

TEXT = "the cat sat on the mat. the dog sat on the log.\n" * 200  # learned in a few steps
LETTERS = sorted(set(TEXT))
IDS = np.array([LETTERS.index(letter) for letter in TEXT], dtype=np.uint8)
SMALL = ModelConfig(vocab_size=len(LETTERS), block_size=64, n_layer=2, n_head=4, n_embd=64)


def make_trainer(
    device: torch.device,
    *,
    steps: int,
    precision: str = "float32",
    changes: dict[str, Any] | None = None,
    seed: int = 0,
    **training: Any,
) -> Trainer:
    """A trainer of a small model on a small text. Where a CPU stands in, it takes float16, too, which it refuses users.

    Args:
        changes: fields of the model.
        training: fields of the training.
    """
    model = SMALL.replace(**(changes or {}))
    stands_in = precision == "float16" and device.type == "cpu"
    values = {
        "max_steps": steps,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "eval_every": 10**6,
        "device": str(device),
        "precision": "float32" if stands_in else precision,
        "seed": seed,
        **training,
    }
    torch.manual_seed(seed)
    batches = Batches(IDS, model.block_size, 8, seed=seed)
    trainer = Trainer(make_model(model), batches, TrainingConfig(**values))
    if stands_in:
        trainer.dtype, trainer._scaler = torch.float16, torch.amp.GradScaler("cpu")
    return trainer


def losses(trainer: Trainer) -> list[float]:
    """Train to the end; the loss of each step."""
    return [event.loss.item() for event in trainer if isinstance(event, Step)]


def flat(tensors: Iterable[Tensor | None]) -> Tensor:
    """All numbers in a row, float64 on the CPU."""
    return torch.cat([t.detach().flatten().cpu().double() for t in tensors if t is not None])


def relative(got: Tensor, wanted: Tensor) -> float:
    """The length of the difference, in lengths of what is wanted. NaN is as far off as can be."""
    got, wanted = got.detach().cpu().double(), wanted.detach().cpu().double()
    off = ((got - wanted).norm() / wanted.norm()).item()
    return float("inf") if math.isnan(off) else off


def distance(trainer: Trainer, other: Trainer | Tensor) -> float:
    """How far the weights of two trainers are apart, or of one and earlier ones of its own."""
    there = other if isinstance(other, Tensor) else flat(other.model.parameters())
    return float((flat(trainer.model.parameters()) - there).norm())
