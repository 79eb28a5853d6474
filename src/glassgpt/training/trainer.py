"""The training loop: something you iterate over."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glassgpt.data.batches import Windows
from glassgpt.device import choose_device, set_seed
from glassgpt.errors import UserError
from glassgpt.recipes import TrainingConfig
from glassgpt.training.evaluation import Score, evaluate, summed_loss
from glassgpt.training.optimizer import learning_rate, make_optimizer
from glassgpt.training.precision import choose_precision, compiled, mixed_precision


@dataclass(frozen=True)
class Step:
    """An optimizer step was made. `loss` and `grad_norm` stay on the device until someone reads them.

    Attributes:
        step: how many steps have been made, this one included.
        tokens: how many tokens have been trained on so far.
        loss: of this step's tokens before the step, nats per token.
        grad_norm: length of the gradient before clipping.
        seconds: training time before this step; evaluations, samples and checkpoints are not counted.
    """

    step: int
    tokens: int
    loss: Tensor
    grad_norm: Tensor
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """The validation text was looked at. `is_best`: no earlier evaluation was better."""

    step: int
    tokens: int
    score: Score
    is_best: bool
    without_improvement: int


@dataclass(frozen=True)
class Checkpoint:
    """A good moment to save: `Trainer.state` is what resuming needs."""

    step: int


Event = Step | Evaluation | Checkpoint


@dataclass
class Progress:
    """The counters of a run; with weights and optimizer, all that resuming needs."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_loss: float | None = None
    best_step: int = 0
    without_improvement: int = 0


class Trainer:
    """Trains any module that maps ids (B, T) to logits (B, T, V).

    Iterate over it: it yields a `Step` after each optimizer step, an `Evaluation` every `eval_every` steps and at the
    end, a `Checkpoint` when it is time to save. Call `stop` from the loop's body to end it after the current event.

    Batches and dropout depend on (seed, step) alone: torch's global random state is set at each step. So evaluating
    more or less often changes nothing, and a run that goes on from `state` is the same: to the bit on a CPU, elsewhere
    and with `compile` up to the order in which a kernel adds.

    Args:
        model: moved to the device and trained in place.
        batches: batch k, for k from 0: inputs and targets, (B, T) int64 each. `data.batches.Batches` is one.
        config: how; `epochs` takes batches that know how many windows there are, as `Batches` does.
        validation: what evaluations look at; None for no evaluations.

    Raises:
        UserError: the device is not there, or no number of steps can be told; while iterating, the loss became NaN.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Callable[[int], tuple[Tensor, Tensor]],
        config: TrainingConfig,
        validation: Windows | None = None,
    ):
        self.total_steps = total_steps(config, batches)
        self.device = choose_device(config.device)
        self.dtype = choose_precision(self.device, config.precision)
        self.model = model.to(self.device)
        self.batches, self.config, self.validation = batches, config, validation
        self.optimizer = make_optimizer(model, config)
        self.progress = Progress()
        self.stop_reason: str | None = None
        self.interrupted = False
        self._forward = compiled(model) if config.compile else model
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)

    def __iter__(self) -> Iterator[Event]:
        """Train until `total_steps` or `stop`."""
        checkpoint_every = self.config.checkpoint_every or self.config.eval_every
        saved_at = self.progress.step
        self.model.train()
        while self.progress.step < self.total_steps and self.stop_reason is None:
            began = time.perf_counter()
            yield (last := self._step())
            # The listeners of a step count as training: on a GPU, they wait for the work that it left behind.
            self.progress.seconds += time.perf_counter() - began
            step = self.progress.step
            if self.validation is not None and (step % self.config.eval_every == 0 or step == self.total_steps):
                yield self._evaluate(self.validation)
            if step % checkpoint_every == 0:
                saved_at = step
                yield self._checkpoint(last)
        step = self.progress.step
        if self.validation is not None and self.stop_reason and not self.interrupted and step % self.config.eval_every:
            yield self._evaluate(self.validation)  # a run that was stopped early ends with a figure too
        if saved_at != step:
            yield self._checkpoint(last)

    def stop(self, reason: str, *, interrupted: bool = False) -> None:
        """End the loop after the current step, with a last evaluation and checkpoint.

        An interrupted run is not evaluated, so that it can go on as if nothing had happened.
        """
        self.stop_reason, self.interrupted = reason, interrupted

    def _step(self) -> Step:
        """One optimizer step over `gradient_accumulation` batches."""
        step, parts = self.progress.step, self.config.gradient_accumulation
        set_seed(_step_seed(self.config.seed, step), self.device)
        rate = learning_rate(step, self.total_steps, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

        batches = [self.batches(step * parts + part) for part in range(parts)]
        tokens = sum(targets.numel() for _, targets in batches)
        loss = torch.zeros((), device=self.device)
        for inputs, targets in batches:
            inputs, targets = self._put(inputs), self._put(targets)
            with mixed_precision(self.device, self.dtype):
                logits = self._forward(inputs)
            part_loss = summed_loss(logits, targets) / tokens  # the parts add up to the mean over all tokens
            self._scaler.scale(part_loss).backward()  # type: ignore[no-untyped-call]
            loss += part_loss.detach()

        self._scaler.unscale_(self.optimizer)
        limit = self.config.grad_clip or math.inf
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

        self.progress.step += 1
        self.progress.tokens += tokens
        return Step(self.progress.step, self.progress.tokens, loss, grad_norm, rate, self.progress.seconds)

    def _put(self, tensor: Tensor) -> Tensor:
        """To the device, without waiting for it where it is another one."""
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def _evaluate(self, validation: Windows) -> Evaluation:
        score, progress = evaluate(self.model, validation, self.device), self.progress
        require_finite(score.loss, progress.step)
        is_best = progress.best_loss is None or score.loss < progress.best_loss
        if is_best:
            progress.best_loss, progress.best_step, progress.without_improvement = score.loss, progress.step, 0
        else:
            progress.without_improvement += 1
        return Evaluation(progress.step, progress.tokens, score, is_best, progress.without_improvement)

    def _checkpoint(self, last: Step) -> Checkpoint:
        require_finite(last.loss.item(), last.step)  # nothing that is broken takes the place of what is whole
        return Checkpoint(last.step)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
        """All that going on takes: weights by name, optimizer tensors by name, and counters as JSON data."""
        names = _parameter_names(self.model, self.optimizer)
        optimizer = {
            f"{names[index]}:{key}": torch.as_tensor(value)
            for index, entries in self.optimizer.state_dict()["state"].items()
            for key, value in entries.items()
        }
        return (
            self.model.state_dict(),
            optimizer,
            {"progress": vars(self.progress), "scaler": self._scaler.state_dict()},
        )

    def load_state(self, model: dict[str, Tensor], optimizer: dict[str, Tensor], counters: dict[str, Any]) -> None:
        """Go on from what `state` returned, on whatever device this trainer has.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: it is not this model's.
        """
        self.model.load_state_dict(model)
        names = _parameter_names(self.model, self.optimizer)
        state: dict[int, dict[str, Tensor]] = {}
        for index, name in names.items():
            entries = {key: value for key, value in optimizer.items() if key.rpartition(":")[0] == name}
            state[index] = {key.rpartition(":")[2]: value for key, value in entries.items()}
        self.optimizer.load_state_dict(
            {
                "state": {i: e for i, e in state.items() if e},
                "param_groups": self.optimizer.state_dict()["param_groups"],
            }
        )
        self._scaler.load_state_dict(counters["scaler"])
        self.progress = Progress(**counters["progress"])


def total_steps(config: TrainingConfig, batches: object) -> int:
    """How many steps `max_steps` and `epochs` come to; the less of the two. An epoch is every window once.

    Raises:
        UserError: there are only epochs, and the batches do not say how many windows they are made from.
    """
    if config.epochs is None:
        assert config.max_steps is not None  # the configuration has made sure of it
        return config.max_steps
    windows: int | None = getattr(batches, "n_windows", None)
    if windows is None:
        raise UserError("training.epochs: these batches have no n_windows to count epochs by: give max_steps")
    windows_a_step = getattr(batches, "batch_size", config.batch_size) * config.gradient_accumulation
    by_epochs = max(1, round(config.epochs * windows / windows_a_step))
    return by_epochs if config.max_steps is None else min(by_epochs, config.max_steps)


def require_finite(loss: float, step: int) -> None:
    """Stop a run that has diverged.

    Raises:
        UserError: the loss is infinite or not a number.
    """
    if not math.isfinite(loss):
        raise UserError(
            f"the loss became {loss} at step {step}: lower --training.learning-rate or lengthen "
            "--training.warmup-steps; what was saved before is as it was"
        )


def _parameter_names(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[int, str]:
    """The name of each parameter by the number that the optimizer's state knows it by."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return dict(enumerate(names[id(p)] for group in optimizer.param_groups for p in group["params"]))


def _step_seed(seed: int, step: int) -> int:
    """A seed for one step's dropout, unlike that of any other step or run."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> np.uint64(1))
