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
from glassgpt.files import remove_leftovers
from glassgpt.reading import read_json, read_json_lines
from glassgpt.recipes import Recipe, save_recipe
from glassgpt.runs import RunFolder
from glassgpt.tensor_files import load_tensors
from glassgpt.training import report
from glassgpt.training.baseline import bigram_score
from glassgpt.training.changes import changed_recipe, describe_changes
from glassgpt.training.checkpoints import (
    advice_to_begin_anew,
    list_checkpoints,
    load_newest_checkpoint,
    prune_checkpoints,
    recipe_of_newest,
    restore_best_weights,
)
from glassgpt.training.evaluation import Score, evaluate, evaluation_windows
from glassgpt.training.interrupts import stopping_on_interrupt
from glassgpt.training.listeners import (
    GradientsFile,
    MetricsFile,
    Samples,
    check_folder,
    keep_best_weights,
    save_checkpoints,
    stop_early,
)
from glassgpt.training.setup import Prepared, make_trainer, prepare, split_text
from glassgpt.training.terminal import Terminal
from glassgpt.training.trackers import Trackers, require_trackers
from glassgpt.training.trainer import DivergedError, Trainer


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
    require_trackers(recipe.training.track)
    folder = RunFolder(out)
    folder.check_free()
    with standard_input(recipe.data.source) as stdin:
        prepared = prepare(recipe, stdin)
        trainer = make_trainer(prepared)
        with folder.locked():
            folder.create(prepared.recipe, prepared.tokenizer, stdin)
            return _run(trainer, prepared, folder, console)


def resume(out: Path, overrides: Mapping[str, Mapping[str, Any]], console: Console) -> bool:
    """Go on with an interrupted run, or with a finished one that is given more steps. Returns as `train`.

    Raises:
        UserError: the folder is no run folder or damaged, its text has changed, a field was changed that must not be,
            or the run is finished, and its best weights are there.
    """
    folder = RunFolder(out)
    old = folder.read_recipe()
    with folder.locked():
        recipe = changed_recipe(old, overrides)
        require_trackers(recipe.training.track)
        made_with = recipe_of_newest(folder.checkpoints) or old.model_dump(mode="json")
        changes = describe_changes(made_with, recipe.model_dump(mode="json"))
        _check_checkpoints(folder)
        tokenizer = folder.read_tokenizer(recipe)
        prepared = split_text(recipe, tokenizer, folder.open_tokens(recipe, tokenizer))
        trainer = make_trainer(prepared)

        def say(line: str) -> None:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

        load_newest_checkpoint(trainer, folder.checkpoints, lambda message: say(f"warning: {message}"))
        remove_leftovers(out)
        brought_back = restore_best_weights(trainer, folder.checkpoints, folder.weights)
        if brought_back is not None:
            say(f"{folder.weights}: brought back from {brought_back.name}")
        if advice := _advice_if_finished(trainer, folder):
            if brought_back is not None:
                return True  # which may be all that was wanted
            raise UserError(f"{out}: finished at step {trainer.progress.step:,}: to go further, say so, as in {advice}")
        prune_checkpoints(trainer, folder.checkpoints, recipe.training.keep_checkpoints)
        if recipe != old:
            save_recipe(recipe, folder.recipe)
        say(f"resuming {out} at step {trainer.progress.step:,}")
        for line in changes:
            say(f"  {line}")
        return _run(trainer, prepared, folder, console)


def _check_checkpoints(folder: RunFolder) -> None:
    """Make sure that a run that had checkpoints still has one: to begin again would overwrite the rest of it.

    The first one follows the first evaluation: a run that was killed before it has no metrics beyond that.

    Raises:
        UserError: they are gone.
    """
    if list_checkpoints(folder.checkpoints):
        return
    rows = read_json_lines(folder.metrics, "metrics", dict[str, Any])
    evaluated = [row for row in rows if row and row.get("val_loss") is not None]
    went_on = bool(evaluated) and rows[-1] is not evaluated[0]
    is_cut = not folder.checkpoints.is_dir() and (folder.weights.exists() or bool(rows))
    if went_on or is_cut or folder.summary.exists():
        raise UserError(f"{folder.checkpoints}: the checkpoints are gone: {advice_to_begin_anew(folder.path)}")


def _advice_if_finished(trainer: Trainer, folder: RunFolder) -> str | None:
    """How to go further with a run that has ended, with all that belongs to its end; None if there is more to do."""
    progress, patience = trainer.progress, trainer.config.patience
    step = progress.step
    if not folder.summary.exists() or read_json(folder.summary, "a run's summary").get("steps") != step:
        return None
    if step >= trainer.total_steps:
        return f"--training.max-steps {2 * step}"
    if patience is not None and progress.without_improvement >= patience:
        return f"--training.patience {2 * patience}"
    return None


def _run(trainer: Trainer, prepared: Prepared, folder: RunFolder, console: Console) -> bool:
    """The loop with all that listens to it, then the summary."""
    recipe = prepared.recipe
    samples = Samples(trainer, folder, prepared.tokenizer, recipe.sampling, recipe.model.block_size)
    judged = trainer.validation or evaluation_windows(prepared.judged, recipe)
    baseline = bigram_score(prepared.train.ids, judged, prepared.tokenizer.vocab_size)
    report.print_header(console, recipe, trainer, folder)
    with ExitStack() as stack:
        terminal = Terminal(trainer, console, prepared.measure)
        metrics = MetricsFile(
            folder,
            prepared.measure,
            prepared.train.bytes_per_token,
            recipe.training.log_every,
            trainer.progress.step,
            also=stack.enter_context(Trackers(recipe, folder, trainer.progress.step, terminal.note)),
        )
        stack.callback(metrics.close)
        gradients = GradientsFile(folder, recipe.training.watch_gradients, trainer.progress.step)
        stack.callback(gradients.close)
        stack.enter_context(terminal)
        stack.enter_context(stopping_on_interrupt(trainer, terminal.note))
        listeners = (
            check_folder(folder),
            metrics,
            gradients,
            samples,  # before anything is saved: a model that cannot write has diverged
            keep_best_weights(trainer, folder),
            save_checkpoints(trainer, folder, recipe),
            stop_early(trainer),
            terminal,
        )
        try:
            for event in trainer:
                for listener in listeners:
                    listener(event)
        except OSError:
            folder.check_there()
            raise
        except KeyboardInterrupt:
            console.print("stopped at once, back to the last checkpoint; to go on:", highlight=False)
            _print_command(console, folder)
            raise
        except DivergedError as error:
            if list_checkpoints(folder.checkpoints):
                rest = "what was saved before is as it was, and --resume goes on from there"
            else:
                rest = "nothing was saved yet, and --resume begins again at the first step"
            raise UserError(f"{error}; {rest}") from None
        except torch.OutOfMemoryError:
            raise UserError(
                f"{trainer.device} ran out of memory: take --training.activation-checkpointing, or halve "
                "--training.batch-size and double --training.gradient-accumulation, which trains the same"
            ) from None
    if trainer.interrupted and trainer.progress.step < trainer.total_steps:
        console.print(f"stopped at step {trainer.progress.step:,}, everything saved; to go on:", highlight=False)
        _print_command(console, folder)
        return False
    folder.check_there()
    trainer.model.load_state_dict(load_tensors(folder.weights))
    best = trainer.progress.best_loss
    score = evaluate(trainer.model, judged, trainer.device) if best is None else Score(best, judged.tokens)
    report.write_summary(folder, recipe, trainer, score, baseline, prepared.measure, prepared.train)
    report.print_result(console, recipe, folder, samples.latest)
    return True


def _print_command(console: Console, folder: RunFolder) -> None:
    command = f"  glassgpt train --resume {quote(str(folder.path))}"
    console.print(command, highlight=False, markup=False, soft_wrap=True)
