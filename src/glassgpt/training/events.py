"""What the training loop yields, and the counters that it keeps."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from glassgpt.runs.schemas import Count
from glassgpt.training.evaluation import Score
from glassgpt.training.flow import Flow


@dataclass(frozen=True)
class Step:
    """An optimizer step was made, or skipped. `loss` and `grad_norm` stay on the device until someone reads them.

    Attributes:
        step: how many steps have been made, this one included.
        tokens: how many tokens have been trained on so far.
        loss: of this step's tokens before the step, nats per token.
        grad_norm: length of the gradient before clipping.
        seconds: training time before this step; evaluations, samples and checkpoints are not counted.
        skipped: how many of the steps so far were skipped, since their loss or gradient was infinite or not a number.
        flow: how gradients flowed in it, every `watch_gradients` steps.
    """

    step: int
    tokens: int
    loss: Tensor
    grad_norm: Tensor
    learning_rate: float
    seconds: float
    skipped: int = 0
    flow: Flow | None = None


@dataclass(frozen=True)
class Evaluation:
    """The validation text was looked at. `is_best`: no earlier evaluation was better."""

    step: int
    tokens: int
    score: Score
    is_best: bool
    without_improvement: int


@dataclass(frozen=True)
class Pause:
    """It would be time to evaluate, but there is nothing to evaluate on: a good moment to look at the model."""

    step: int


@dataclass(frozen=True)
class Checkpoint:
    """A good moment to save: `Trainer.state` is what resuming needs."""

    step: int


Event = Step | Evaluation | Pause | Checkpoint


@dataclass
class Progress:
    """The counters of a run; with weights and optimizer, all that resuming needs."""

    step: Count = 0
    tokens: Count = 0
    seconds: Annotated[float, Field(ge=0)] = 0.0
    best_loss: float | None = None
    best_step: Count = 0
    without_improvement: Count = 0
    skipped: Count = 0
    skipped_in_a_row: Count = 0

    @classmethod
    def parse(cls, values: object) -> "Progress":
        """Make one from JSON data.

        Raises:
            ValueError: a counter is none, or contradicts another.
        """
        try:  # as JSON: a mapping of Python's is no dataclass, to whoever is strict
            progress = _adapter().validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(("progress", *map(str, problem["loc"])))
            raise ValueError(f"{where}: {problem['msg']}") from None
        progress._check()
        return progress

    def _check(self) -> None:
        for name, most, of in (
            ("best_step", self.step, "step"),
            ("without_improvement", self.step, "step"),
            ("skipped", self.step, "step"),
            ("skipped_in_a_row", self.skipped, "skipped"),
        ):
            if (value := getattr(self, name)) > most:
                raise ValueError(f"{name} {value} is above {of} {most}")
        if (self.best_loss is None) != (self.best_step == 0):
            raise ValueError(f"best_loss {self.best_loss} does not belong to best_step {self.best_step}")
        if (self.tokens == 0) != (self.step == 0):
            raise ValueError(f"{self.tokens} tokens in {self.step} steps")


@cache
def _adapter() -> "TypeAdapter[Progress]":
    return TypeAdapter(Progress)
