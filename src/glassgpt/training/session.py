"""A whole run: from a recipe to a finished run folder, and from an interrupted one on."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from rich.console import Console

from glassgpt.data.opening import standard_input
from glassgpt.errors import UserError
from glassgpt.files import read_json, remove_leftovers
from glassgpt.recipes import Recipe, save_recipe
from glassgpt.runs import RunFolder, load_tensors
from glassgpt.training import report
from glassgpt.training.baseline import bigram_score
from glassgpt.training.changes import changed_recipe
from glassgpt.training.checkpoints import load_newest_checkpoint
from glassgpt.training.evaluation import Score, evaluate, evaluation_windows
from glassgpt.training.interrupts import stopping_on_interrupt
from glassgpt.training.listeners import MetricsFile, Samples, keep_best_weights, save_checkpoints, stop_early
from glassgpt.training.setup import Prepared, make_trainer, prepare, split_text
from glassgpt.training.terminal import Terminal
from glassgpt.training.trainer import Trainer


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
    with standard_input(recipe.data.source) as stdin:
        prepared = prepare(recipe, stdin)
        trainer = make_trainer(prepared)
        folder.create(prepared.recipe, prepared.tokenizer, stdin)
    return _run(trainer, prepared, folder, console)


def resume(out: Path, overrides: Mapping[str, Mapping[str, Any]], console: Console) -> bool:
    """Go on with an interrupted run, or with a finished one that is given more steps. Returns as `train`.

    Raises:
        UserError: the folder is no run folder or damaged, its text has changed, a field was changed that must not be,
            or the run is finished.
    """
    folder = RunFolder(out)
    old = folder.read_recipe()
    recipe = changed_recipe(old, overrides)
    tokenizer = folder.read_tokenizer(recipe)
    prepared = split_text(recipe, tokenizer, folder.open_tokens(recipe, tokenizer))
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


def _run(trainer: Trainer, prepared: Prepared, folder: RunFolder, console: Console) -> bool:
    """The loop with all that listens to it, then the summary."""
    recipe = prepared.recipe
    samples = Samples(trainer, folder, prepared.tokenizer, recipe.sampling, recipe.model.block_size)
    judged = trainer.validation or evaluation_windows(prepared.judged, recipe)
    baseline = bigram_score(prepared.train.ids, judged, prepared.tokenizer.vocab_size)
    report.print_header(console, recipe, trainer, folder)
    with ExitStack() as stack:
        metrics = MetricsFile(
            folder,
            prepared.measure,
            prepared.train.bytes_per_token,
            recipe.training.log_every,
            trainer.progress.step,
        )
        stack.callback(metrics.close)
        terminal = stack.enter_context(Terminal(trainer, console, prepared.measure))
        stack.enter_context(stopping_on_interrupt(trainer, terminal.note))
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
    report.write_summary(folder, recipe, trainer, score, baseline, prepared.measure, prepared.train)
    report.print_result(console, folder, samples.latest)
    return True


def _summarised_steps(folder: RunFolder) -> object:
    return read_json(folder.summary, "a run's summary").get("steps")
