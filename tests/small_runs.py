"""What tests of whole runs share: a small recipe, interruptions, comparisons."""

import signal
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from glassgpt.recipes import Recipe, load_recipe, merge
from glassgpt.runs import read_metrics
from glassgpt.training.trainer import Step, Trainer

QUIET = Console(quiet=True)
SETTINGS = {
    "model": {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 16, "dropout": 0.2},
    "training": {
        "max_steps": 30,
        "eval_every": 7,
        "checkpoint_every": 5,
        "batch_size": 3,
        "log_every": 2,
        "gradient_accumulation": 2,
        "device": "cpu",
        "warmup_steps": 5,
    },
    "sampling": {"max_new_tokens": 10, "prompt": None},
}


def recipe_for(text_file: Path, **changes) -> Recipe:
    return load_recipe("default", merge(merge(SETTINGS, {"data": {"source": [str(text_file)]}}), changes))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def comparable(run: Path) -> list[dict]:
    timing = ("tokens_per_second", "seconds")
    return [{k: v for k, v in row.items() if k not in timing} for row in read_metrics(run / "metrics.jsonl")]


class Killed(BaseException):
    """What ends a run with no chance to save anything, or to say anything, as a kill would."""


class StopAt:
    """Interrupts a run at some steps, as Ctrl-C would, by wrapping the trainer's step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: list[int]):
        self.steps = list(steps)
        original = Trainer._step

        def step(trainer: Trainer) -> Step:
            event = original(trainer)
            if self.steps and event.step == self.steps[0]:
                self.steps.pop(0)
                signal.raise_signal(signal.SIGINT)
            return event

        monkeypatch.setattr(Trainer, "_step", step)
