"""The training loop: something you iterate over."""

import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from glassgpt import threads
from glassgpt.data.batches import Windows
from glassgpt.device import choose_device, set_seed
from glassgpt.errors import UserError, show
from glassgpt.reading import checked
from glassgpt.recipes import TrainingConfig
from glassgpt.runs.schemas import Scaler
from glassgpt.tensor_files import check_tensors
from glassgpt.training.clock import Clock
from glassgpt.training.evaluation import evaluate
from glassgpt.training.events import Checkpoint, Evaluation, Event, Pause, Progress, Step
from glassgpt.training.flow import Watch
from glassgpt.training.loss import summed_loss
from glassgpt.training.memory import checkpoint_activations
from glassgpt.training.optimizer import Optimizer, learning_rate
from glassgpt.training.precision import choose_precision, compiled, mixed_precision, repeatable
from glassgpt.waiting import begin_work

__all__ = ["Checkpoint", "DivergedError", "Evaluation", "Event", "Pause", "Progress", "Step", "Trainer", "total_steps"]


class DivergedError(UserError):
    """The numbers of a training have become infinite or none; says what to change."""


class Trainer:
    """Trains any module that maps ids (B, T) to logits (B, T, V).

    Iterate over it: it yields a `Step` after each optimizer step, an `Evaluation` every `eval_every` steps and at the
    end (a `Pause` where there is nothing to evaluate on), a `Checkpoint` when it is time to save: at each new best, and
    as `checkpoint_every` says. Call `stop` from the loop's body to end it after the current event.

    Batches and dropout depend on (seed, step) alone: the global random states of torch, numpy and Python are set at
    each step. So evaluating more or less often changes nothing, and a run that goes on from `state` is the same: to the
    bit on a CPU, with `compile` too, elsewhere up to the order in which a kernel adds.

    Args:
        model: moved to the device and trained in place.
        batches: batch k, for k from 0: inputs and targets, (B, T) int64 each. `data.batches.Batches` is one.
        config: how; `epochs` takes batches that know how many windows there are, as `Batches` does.
        validation: what evaluations look at; None for no evaluations.

    Raises:
        UserError: the device is not there, or no number of steps can be told.
        DivergedError: while iterating, the model diverged.
        TypeError: an argument is of another kind.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Callable[[int], tuple[Tensor, Tensor]],
        config: TrainingConfig,
        validation: Windows | None = None,
    ):
        for name, value, kind in (("model", model, nn.Module), ("config", config, TrainingConfig)):
            if not isinstance(value, kind):
                raise TypeError(f"{name}: a {kind.__name__} is needed, not {show(value)}")
        self.total_steps = total_steps(config, batches)
        self.device = choose_device(config.device)
        if config.threads is not None and self.device.type == "cpu":
            threads.use(config.threads)
        self.dtype = choose_precision(self.device, config.precision)
        self.model = model.to(self.device)
        self.batches, self.config, self.validation = batches, config, validation
        self.optimizer = Optimizer(model, config, self.dtype)
        self.progress = Progress()
        self.stop_reason: str | None = None
        self.interrupted = False
        if config.activation_checkpointing:
            checkpoint_activations(model)
        self._forward = compiled(model) if config.compile else model
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)

    def __iter__(self) -> Iterator[Event]:
        """Train until `total_steps` or `stop`."""
        config, progress = self.config, self.progress
        saved_at = looked_at = progress.step
        training, running = Clock(), Clock()
        saved_on, is_due = 0.0, False
        self.model.train()
        while progress.step < self.total_steps and self.stop_reason is None:
            training.begin()
            yield self._step()
            # The listeners of a step count as training: on a GPU, they wait for the work that it left behind.
            progress.seconds += training.lap()
            step, is_best = progress.step, False
            if step % config.eval_every == 0 or step == self.total_steps or self._ends_early():
                yield (looked := self._look())
                is_best, looked_at = isinstance(looked, Evaluation) and looked.is_best, step
            if config.checkpoint_seconds is None:
                is_due = is_due or step % (config.checkpoint_steps or config.eval_every) == 0
            else:
                running.lap()
                is_due = running.seconds - saved_on >= config.checkpoint_seconds
            # After a skipped step the model may be beyond help: the next checkpoint waits for a step that is made.
            if is_best or (is_due and not progress.skipped_in_a_row):
                yield self._checkpoint()
                saved_at, saved_on, is_due = step, running.seconds, False
        if looked_at != progress.step and self._ends_early():  # stopped by the event after an evaluation
            yield self._look()
            saved_at = 0
        if saved_at != progress.step:
            yield self._checkpoint()

    def _ends_early(self) -> bool:
        """Whether this is the end of a run that was stopped early, and not interrupted: it ends with a figure, too."""
        return self.stop_reason is not None and not self.interrupted

    def stop(self, reason: str, *, interrupted: bool = False) -> None:
        """End the loop after the current step, with a last evaluation and checkpoint.

        An interrupted run is not evaluated, so that it can go on as if nothing had happened.
        """
        self.stop_reason, self.interrupted = reason, interrupted

    def _step(self) -> Step:
        """One optimizer step over `gradient_accumulation` batches."""
        begin_work(self.device)
        step, parts = self.progress.step, self.config.gradient_accumulation
        set_seed(_step_seed(self.config.seed, step), self.device)
        rate = learning_rate(step, self.total_steps, self.config)
        batches = [self._batch(step * parts + part) for part in range(parts)]
        tokens = sum(targets.numel() for _, targets in batches)
        loss = torch.zeros((), device=self.device)
        for inputs, targets in batches:
            inputs, targets = self._put(inputs), self._put(targets)
            with repeatable(self.config.compile and self.device.type == "cpu"):
                with mixed_precision(self.device, self.dtype):
                    logits = self._forward(inputs)
                part_loss = summed_loss(logits, targets) / tokens  # the parts add up to the mean over all tokens
                del logits  # often the largest tensor: the backward pass lets go of it as soon as it can
                self._scaler.scale(part_loss).backward()  # type: ignore[no-untyped-call]
            loss += part_loss.detach()

        self._scaler.unscale_(self.optimizer)  # type: ignore[arg-type]  # it asks for param_groups and step only
        grad_norm = nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        # Two numbers are read from the device, which waits for the backward pass. It costs little, since the update is
        # launched right after it and the next batch is made while that runs; and a step that is not made is the one
        # way to skip it that leaves every optimizer's state as it was. (With float16, this is also how a loss scale
        # that is too high shows, and `update` lowers it.)
        loss_now, norm_now = torch.stack((loss, grad_norm)).tolist()
        is_finite = math.isfinite(loss_now) and math.isfinite(norm_now)
        watch = self._watch([inputs for inputs, _ in batches])
        if is_finite:
            if 0 < self.config.grad_clip < norm_now:  # else there is nothing to clip, and one pass is saved
                nn.utils.clip_grads_with_norm_(self.model.parameters(), self.config.grad_clip, grad_norm)
            self._scaler.step(self.optimizer, rate / self.config.learning_rate)  # type: ignore[arg-type]
        flow = None if watch is None else watch.flow()
        self._scaler.update()
        self.optimizer.zero_grad()

        progress = self.progress
        progress.step += 1
        progress.tokens += tokens
        progress.skipped += not is_finite
        progress.skipped_in_a_row = 0 if is_finite else progress.skipped_in_a_row + 1
        if progress.skipped_in_a_row >= self.config.max_skipped_steps:
            raise self._diverged(
                f"{progress.skipped_in_a_row} steps in a row, up to {progress.step}, had no finite gradient"
            )
        return Step(progress.step, progress.tokens, loss, grad_norm, rate, progress.seconds, progress.skipped, flow)

    def _batch(self, number: int) -> tuple[Tensor, Tensor]:
        made = self.batches(number)
        if not (isinstance(made, tuple | list) and len(made) == 2):
            raise TypeError(f"batches: batch {number} is {type(made).__name__}, not (inputs, targets)")
        return made[0], made[1]

    def _watch(self, inputs: list[Tensor]) -> Watch | None:
        """Look at the step that is being made, if it is time to."""
        step, every = self.progress.step, self.config.watch_gradients
        if every is None or (step + 1) % every:
            return None
        set_seed(_step_seed(self.config.seed, step), self.device)  # what dropout drops is what it dropped
        with mixed_precision(self.device, self.dtype):
            return Watch(self.model, [self._put(ids) for ids in inputs])

    def _put(self, tensor: Tensor) -> Tensor:
        """To the device, without waiting for it where it is another one."""
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def _look(self) -> Evaluation | Pause:
        """Evaluate, if there is something to evaluate on."""
        progress = self.progress
        if self.validation is None:
            return Pause(progress.step)
        score = evaluate(self.model, self.validation, self.device)
        if not math.isfinite(score.loss):
            raise self._diverged(f"the validation loss became {score.loss} at step {progress.step}")
        is_best = progress.best_loss is None or score.loss < progress.best_loss
        if is_best:
            progress.best_loss, progress.best_step, progress.without_improvement = score.loss, progress.step, 0
        else:
            progress.without_improvement += 1
        return Evaluation(progress.step, progress.tokens, score, is_best, progress.without_improvement)

    def _checkpoint(self) -> Checkpoint:
        if not all(bool(weight.isfinite().all()) for weight in self.model.state_dict().values()):
            raise self._diverged(f"a weight became infinite at step {self.progress.step}")  # what is whole stays so
        return Checkpoint(self.progress.step)

    def _diverged(self, what: str) -> DivergedError:
        lower, lengthen = "lower --training.learning-rate", "lengthen --training.warmup-steps"
        if self.config.grad_clip:
            return DivergedError(f"{what}: {lower} or {lengthen}")
        return DivergedError(f"{what}: {lower}, {lengthen}, or take --training.grad-clip 1")

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
        """All that going on takes: weights by name, optimizer tensors by name, and counters as JSON data."""
        return (
            self.model.state_dict(),
            self.optimizer.state(),
            {"progress": vars(self.progress), "scaler": self._scaler.state_dict()},
        )

    def load_state(self, model: dict[str, Tensor], optimizer: dict[str, Tensor], counters: dict[str, Any]) -> None:
        """Go on from what `state` returned, on whatever device this trainer has.

        Raises:
            ValueError: it is not this model's, or damaged; the trainer is as it was then.
        """
        progress = Progress.parse(counters.get("progress"))
        scaler = checked(counters.get("scaler"), cast(type[Scaler], Scaler))
        check_tensors("the model's", model, self.model.state_dict())
        for name, tensor in model.items():
            if not bool(tensor.isfinite().all()):
                raise ValueError(f"the model's {name} has values that are NaN or inf")
        self.optimizer.load_state(optimizer, progress.step)  # which changes nothing if it refuses
        self.model.load_state_dict(model)
        if scaler:  # empty where it was made in another precision than float16
            self._scaler.load_state_dict(dict(scaler))
        self.progress = progress


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


def _step_seed(seed: int, step: int) -> int:
    """A seed for one step's dropout, unlike that of any other step or run."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> np.uint64(1))
