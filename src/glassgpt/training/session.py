"""A whole run: from a recipe to a finished run folder, and from an interrupted one on."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from numpy.typing import NDArray
from rich.console import Console

from glassgpt.data.batches import Batches, Windows, as_token_array
from glassgpt.data.text import STDIN, absolute_sources, read_text, split_text, text_sha256
from glassgpt.errors import UserError
from glassgpt.files import read_json, remove_leftovers
from glassgpt.generation.text import prompt_ids
from glassgpt.model import make_model
from glassgpt.recipes import Recipe, merge, save_recipe
from glassgpt.runs import RunFolder, check_text, load_tensors
from glassgpt.tokenizers import Tokenizer, load_tokenizer, make_tokenizer
from glassgpt.training import report
from glassgpt.training.baseline import bigram_score
from glassgpt.training.checkpoints import load_newest_checkpoint
from glassgpt.training.evaluation import Score, evaluate, evaluation_batch
from glassgpt.training.listeners import MetricsFile, Samples, keep_best_weights, save_checkpoints, stop_early
from glassgpt.training.terminal import Terminal
from glassgpt.training.trainer import Trainer

FIXED_FIELDS = (  # they decide which windows a step sees
    *(f"training.{field}" for field in ("seed", "batch_size", "gradient_accumulation")),
    *(f"data.{field}" for field in ("sha256", "val_fraction", "order", "stride")),
)


@dataclass(frozen=True)
class Prepared:
    """What a run trains on: a complete recipe, and its text in tokens."""

    recipe: Recipe
    tokenizer: Tokenizer
    train_ids: NDArray[Any]
    val_ids: NDArray[Any]
    stdin_text: str | None = None

    @property
    def vocab_size(self) -> int:
        """V of the model."""
        return self.recipe.model.vocabulary

    def windows(self, ids: NDArray[Any], max_tokens: int | None = None) -> Windows:
        """A text in windows for evaluation."""
        block_size = self.recipe.model.block_size
        return Windows(ids, block_size, evaluation_batch(block_size, self.vocab_size), max_tokens=max_tokens)


def train(recipe: Recipe, out: Path, console: Console) -> bool:
    """Train a new model and write its run folder.

    Args:
        recipe: what to train.
        out: the run folder to make.
        console: where to show it.

    Returns:
        True if it reached its end, False if it was interrupted; either way everything is saved.

    Raises:
        UserError: something about the recipe, the text, the device or the folder is wrong; nothing was written then.
    """
    folder = RunFolder(out)
    folder.check_free()
    prepared = prepare(recipe)
    trainer = make_trainer(prepared)
    folder.create(prepared.recipe, prepared.tokenizer, prepared.stdin_text)
    return _run(trainer, prepared, folder, console)


def resume(out: Path, overrides: Mapping[str, Mapping[str, Any]], console: Console) -> bool:
    """Go on with an interrupted run, or with a finished one that is given more steps. Returns as `train`.

    Raises:
        UserError: the folder is no run folder or damaged, its text has changed, a field was changed that must not be,
            or the run is finished.
    """
    folder = RunFolder(out)
    old = folder.read_recipe()
    recipe = _changed_recipe(old, overrides)
    tokenizer = load_tokenizer(folder.tokenizer)
    train_text, val_text = folder.read_split(recipe)
    prepared = _encode(recipe, tokenizer, train_text, val_text)
    trainer = make_trainer(prepared)
    load_newest_checkpoint(
        trainer,
        folder.checkpoints,
        lambda message: console.print(f"warning: {message}", markup=False, highlight=False, soft_wrap=True),
    )
    step = trainer.progress.step
    if step >= trainer.total_steps and folder.summary.exists() and _summarised_steps(folder) == step:
        raise UserError(
            f"{out}: finished at step {step:,}: to go further, say so, as in --training.max-steps {2 * step}"
        )
    remove_leftovers(out)
    if recipe != old:
        save_recipe(recipe, folder.recipe)
    console.print(f"resuming {out} at step {step:,}", highlight=False, markup=False, soft_wrap=True)
    return _run(trainer, prepared, folder, console)


def prepare(recipe: Recipe) -> Prepared:
    """Read the text, make the tokenizer, and fill in what the recipe left to them.

    Raises:
        UserError: the text cannot be read or is too short, or the tokenizer, the model and the prompt do not fit it.
    """
    text = read_text(recipe.data.source)
    check_text(text, recipe)
    tokenizer = make_tokenizer(recipe.tokenizer, text)
    wanted = recipe.model.vocab_size
    if wanted is not None and wanted < tokenizer.vocab_size:
        raise UserError(
            f"model.vocab_size {wanted} is less than the tokenizer's {tokenizer.vocab_size}: raise it, or leave it out"
        )
    prompt = recipe.sampling.prompt or ("\n" if "\n" in text else text[0])
    try:
        prompt_ids(tokenizer, prompt, recipe.model.block_size)
    except UserError as error:
        raise UserError(f"sampling.prompt: {error}") from None
    complete = Recipe.model_validate(
        {
            **recipe.model_dump(),
            "data": {
                **recipe.data.model_dump(),
                "source": absolute_sources(recipe.data.source),
                "sha256": text_sha256(text),
            },
            "model": {**recipe.model.model_dump(), "vocab_size": wanted or tokenizer.vocab_size},
            "sampling": {**recipe.sampling.model_dump(), "prompt": prompt},
        }
    )
    train_text, val_text = split_text(text, recipe.data.val_fraction)
    return _encode(complete, tokenizer, train_text, val_text, text if STDIN in recipe.data.source else None)


def _encode(
    recipe: Recipe, tokenizer: Tokenizer, train_text: str, val_text: str, stdin_text: str | None = None
) -> Prepared:
    train_ids, val_ids = (as_token_array(tokenizer.encode(t), tokenizer.vocab_size) for t in (train_text, val_text))
    if recipe.data.val_fraction and len(val_ids) < 2:
        raise UserError(
            f"the validation split has {len(val_ids)} tokens: take more text, or none of it (--data.val-fraction 0)"
        )
    return Prepared(recipe, tokenizer, train_ids, val_ids, stdin_text)


def make_trainer(prepared: Prepared) -> Trainer:
    """A new model of the recipe's shape, and a trainer for it.

    Raises:
        UserError: the text is shorter than a window, or the device is not there.
    """
    recipe = prepared.recipe
    config = recipe.training
    batches = Batches(
        prepared.train_ids,
        recipe.model.block_size,
        config.batch_size,
        seed=config.seed,
        order=recipe.data.order,
        stride=recipe.data.stride,
    )
    validation = prepared.windows(prepared.val_ids, config.eval_tokens) if len(prepared.val_ids) else None
    torch.manual_seed(config.seed)
    return Trainer(make_model(recipe.model), batches, config, validation)


def _run(trainer: Trainer, prepared: Prepared, folder: RunFolder, console: Console) -> bool:
    """The loop with all that listens to it, then the summary."""
    recipe = prepared.recipe
    samples = Samples(trainer, folder, prepared.tokenizer, recipe.sampling, recipe.model.block_size)
    # What the result is about: the validation text, or the training text where nothing was kept aside.
    judged = trainer.validation or prepared.windows(prepared.train_ids)
    baseline = bigram_score(prepared.train_ids, judged, prepared.tokenizer.vocab_size)
    report.print_header(console, recipe, trainer, folder)
    with ExitStack() as stack:
        metrics = MetricsFile(folder, recipe.training.log_every, trainer.progress.step)
        stack.callback(metrics.close)
        terminal = stack.enter_context(Terminal(trainer, console))
        stack.enter_context(_stopping_on_interrupt(trainer, terminal.note))
        listeners = (
            metrics,
            samples,  # before anything is saved: a model that cannot write has diverged
            keep_best_weights(trainer, folder),
            save_checkpoints(trainer, folder),
            stop_early(trainer),
            terminal,
        )
        try:
            for event in trainer:
                for listener in listeners:
                    listener(event)
        except OSError as error:
            raise UserError(f"{folder.path}: {error.strerror or error}: what was saved before is as it was") from None
        except torch.OutOfMemoryError:
            raise UserError(
                f"{trainer.device} ran out of memory: halve --training.batch-size and double "
                "--training.gradient-accumulation, which trains the same"
            ) from None
    if trainer.interrupted and trainer.progress.step < trainer.total_steps:
        console.print(f"stopped at step {trainer.progress.step:,}, everything saved; to go on:", highlight=False)
        console.print(
            f"  glassgpt train --resume {quote(str(folder.path))}", highlight=False, markup=False, soft_wrap=True
        )
        return False
    trainer.model.load_state_dict(load_tensors(folder.weights))
    best = trainer.progress.best_loss
    score = evaluate(trainer.model, judged, trainer.device) if best is None else Score(best, judged.tokens)
    report.write_summary(folder, recipe, prepared.tokenizer, trainer, score, baseline, judged.predicted())
    report.print_result(console, folder, samples.latest)
    return True


def _summarised_steps(folder: RunFolder) -> object:
    return read_json(folder.summary, "a run's summary").get("steps")


def _changed_recipe(old: Recipe, overrides: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """The run's recipe with some fields changed, if they may be.

    Raises:
        UserError: the change would make it another run.
    """
    new = Recipe.parse(merge(old.model_dump(exclude_none=True), overrides))
    if STDIN in new.data.source and STDIN not in old.data.source:
        raise UserError("--data=-: a run goes on with the text that it has: leave it out")
    new = new.replace(data=new.data.replace(source=absolute_sources(new.data.source)).model_dump())
    for section, fields in overrides.items():
        for field in fields:
            fixed = section in ("model", "tokenizer") or f"{section}.{field}" in FIXED_FIELDS
            if fixed and getattr(getattr(old, section), field) != getattr(getattr(new, section), field):
                raise UserError(f"{section}.{field} cannot change in a run that goes on: begin a new one with --out")
    return new


@contextmanager
def _stopping_on_interrupt(trainer: Trainer, tell: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C, or a request to terminate, ends the loop after the current step; a second one at once."""
    asked = False

    def ask_to_stop(signum: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        if trainer.stop_reason is not None:
            return  # it is ending anyway
        tell("stopping after this step (once more to stop at once, back to the last checkpoint)")
        trainer.stop(f"interrupted by {signal.Signals(signum).name}", interrupted=True)

    try:
        old = {name: signal.signal(name, ask_to_stop) for name in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever runs this handles signals
        yield
        return
    try:
        yield
    finally:
        for name, handler in old.items():
            signal.signal(name, handler)
