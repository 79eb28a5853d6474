"""What the training loop yields, and the counters that it keeps."""

from dataclasses import dataclass

from torch import Tensor

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

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_loss: float | None = None
    best_step: int = 0
    without_improvement: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
